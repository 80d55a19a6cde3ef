"""What a request passes before its route, and the headers that every answer has."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.clock import SystemClock
from eai_common.health import Health, make_probe_routes
from eai_common.http import (
    HttpResources,
    Role,
    SelfLimitedRoute,
    build_app,
    caller,
    get_pending_limit,
    json_response,
    open_security_policy,
    require,
)
from eai_common.http.addresses import find_client_address, name_subscriber
from eai_common.http.limits import make_rate_windows
from eai_common.http.testing import AUDIENCE, ISSUER, Issuer
from eai_common.ids import Ids
from eai_common.settings import (
    HttpSettings,
    JwtSettings,
    RedisSettings,
    SecuritySettings,
    TelemetrySettings,
    load,
)
from eai_common.store import RedisClient, open_memory_redis, open_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, eventually

LIMITS = {"RATE_LIMIT_REQUESTS_PER_MINUTE": "5", "RATE_LIMIT_BURST": "0"}
TOKENS = {"API_TOKEN": "one:read_only:first,two:read_only:second"}


@dataclass(frozen=True)
class Settings:
    """What the front is told."""

    http: HttpSettings
    jwt: JwtSettings
    security: SecuritySettings
    telemetry: TelemetrySettings


async def open_to_all(request: Request) -> Response:
    return json_response({"caller": caller(request).key})


async def for_readers(request: Request) -> Response:
    return json_response({"caller": require(request, Role.READ_ONLY).key})


async def with_own_headers(request: Request) -> Response:
    return Response(headers={"Content-Security-Policy": "default-src 'self'"})


@asynccontextmanager
async def open_replica(
    redis: RedisClient, *, address: str = "192.0.2.1", **environ: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one replica, which sees it at this address."""
    settings, clock, metrics = load(Settings, environ), SystemClock(), Metrics()
    async with AsyncExitStack() as stack:
        policy = await stack.enter_async_context(
            open_security_policy(settings, redis=redis, clock=clock, metrics=metrics)
        )

        async def counts_itself(request: Request) -> Response:
            if (limit := get_pending_limit(request)) is not None:
                limit.admit(await limit.count)
            return json_response({})

        resources = HttpResources(
            Ids(clock, RANDOM),
            metrics,
            open_tracing(settings.telemetry, service="test"),
            settings.http,
            settings.telemetry,
            policy,
        )
        routes = [
            Route("/open", open_to_all),
            Route("/readers", for_readers),
            Route("/headers", with_own_headers),
            SelfLimitedRoute("/counts-itself", counts_itself),
            *make_probe_routes(Health("test", is_started=True), metrics, "/metrics"),
        ]
        transport = httpx.ASGITransport(build_app(routes, resources), client=(address, 4321))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway"))


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as redis:
        yield redis


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Rate limits


@pytest.mark.parametrize("path", ["/open", "/readers", "/counts-itself", "/nowhere"])
async def test_a_client_over_its_limit_is_told_so_and_when_to_come_back(redis: RedisClient, path: str) -> None:
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        for _ in range(5):
            assert (await client.get(path, headers=bearer("first"))).status_code != 429
        refused = await client.get(path, headers=bearer("first"))
    body = refused.json()
    retry_after = int(refused.headers["retry-after"])
    assert refused.status_code == 429
    assert body == {
        "error": "Rate limit exceeded",
        "message": f"More than 5 requests in 1 minute. Try again in {retry_after} s.",
        "retry_after": retry_after,
        "limit": 5,
        "window": "1 minute",
        "request_id": refused.headers["x-request-id"],
    }
    assert 50 < retry_after <= 60


@pytest.mark.parametrize("path", ["/open", "/counts-itself", "/nowhere"])
async def test_every_answer_tells_what_is_left(redis: RedisClient, path: str) -> None:
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        answers = [await client.get(path, headers=bearer("first")) for _ in range(6)]
    told = [(one.headers["x-ratelimit-limit"], one.headers["x-ratelimit-remaining"]) for one in answers]
    assert told == [("5", str(left)) for left in (4, 3, 2, 1, 0, 0)]
    assert {int(one.headers["x-ratelimit-reset"]) for one in answers} <= set(
        range(math.floor(time.time()) + 57, math.ceil(time.time()) + 61)
    )


async def test_a_route_that_counts_itself_but_did_not_is_counted_when_it_answers(redis: RedisClient) -> None:
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        answers = [await client.post("/counts-itself", headers=bearer("first")) for _ in range(6)]
        refused = await client.get("/counts-itself", headers=bearer("first"))
    told = [one.headers["x-ratelimit-remaining"] for one in answers]
    assert (told, answers[-1].status_code, refused.status_code) == (["4", "3", "2", "1", "0", "0"], 405, 429)


async def test_another_client_is_not_limited_by_the_first(redis: RedisClient) -> None:
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        for _ in range(6):
            await client.get("/readers", headers=bearer("first"))
        assert (await client.get("/readers", headers=bearer("second"))).status_code == 200


async def test_a_client_without_a_good_credential_counts_by_its_address(redis: RedisClient) -> None:
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        for guess in range(6):
            refused = await client.get("/readers", headers=bearer(f"guess-{guess}"))
        good = await client.get("/readers", headers=bearer("first"))
    assert (refused.status_code, good.status_code) == (429, 200)


async def test_a_burst_is_limited_before_the_minute_is_used_up_and_its_headers_tell_of_it(redis: RedisClient) -> None:
    limits = {"RATE_LIMIT_REQUESTS_PER_MINUTE": "12", "RATE_LIMIT_BURST": "1", "RATE_LIMIT_BURST_PERIOD": "10s"}
    async with open_replica(redis, **TOKENS, **limits) as client:
        answers = [await client.get("/readers", headers=bearer("first")) for _ in range(4)]
    told = [(one.headers["x-ratelimit-limit"], one.headers["x-ratelimit-remaining"]) for one in answers]
    assert told == [("12", "11"), ("12", "10"), ("3", "0"), ("3", "0")]
    assert (answers[-1].status_code, answers[-1].json()["window"]) == (429, "10 seconds")


@pytest.mark.parametrize(
    ("given", "windows"),
    [
        ({}, [(1000, 60), (266, 10)]),
        ({"RATE_LIMIT_REQUESTS_PER_MINUTE": "60000"}, [(60_000, 60), (10_100, 10)]),
        ({"RATE_LIMIT_BURST": "0"}, [(1000, 60)]),
        ({"RATE_LIMIT_BURST": "900"}, [(1000, 60)]),
        ({"RATE_LIMIT_REQUESTS_PER_MINUTE": "0"}, []),
    ],
    ids=["by default", "a higher rate", "no burst limit", "bursts as large as the minute", "no limit"],
)
def test_a_burst_counts_above_the_even_rate(given: dict[str, str], windows: list[tuple[int, int]]) -> None:
    found = make_rate_windows(SecuritySettings.read(given), is_open=False)
    assert [(window.limit, window.period.total_seconds()) for window in found] == windows


async def test_a_failure_of_ours_before_the_route_is_answered_in_json_without_its_cause(redis: RedisClient) -> None:
    await redis.driver.set("ratelimit:{http:token:one}", "not a log")
    async with open_replica(redis, **LIMITS, **TOKENS) as client:
        answer = await client.get("/readers", headers=bearer("first"))
    assert (answer.status_code, answer.json()["error"]) == (500, "Internal server error")
    assert "not a log" not in answer.text


async def test_replicas_share_a_clients_limit(redis_server: Any) -> None:
    settings = RedisSettings.read({"REDIS_URL": redis_server.url})
    limits = {"RATE_LIMIT_REQUESTS_PER_MINUTE": "100", "RATE_LIMIT_BURST": "0", **TOKENS}
    async with AsyncExitStack() as stack:
        redises = [await stack.enter_async_context(open_redis(settings)) for _ in range(2)]
        await redises[0].driver.delete("ratelimit:{http:token:one}", "ratelimit:{http:token:two}")
        replicas = [await stack.enter_async_context(open_replica(redis, **limits)) for redis in redises]
        answers = await asyncio.gather(
            *(replicas[n % 2].get("/readers", headers=bearer("first")) for n in range(120)),
            *(replicas[n % 2].get("/readers", headers=bearer("second")) for n in range(50)),
        )
    statuses = [answer.status_code for answer in answers]
    assert (statuses[:120].count(200), statuses[:120].count(429), statuses[120:].count(200)) == (100, 20, 50)
    assert sorted(int(one.headers["x-ratelimit-remaining"]) for one in answers[:120] if one.status_code == 200) == [
        *range(100)
    ]


async def test_probes_and_metrics_are_not_limited(redis: RedisClient) -> None:
    async with open_replica(redis, **{**LIMITS, "RATE_LIMIT_REQUESTS_PER_MINUTE": "1"}, **TOKENS) as client:
        answers = [await client.get(path) for path in ("/live", "/ready", "/health", "/metrics", "/live", "/metrics")]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert "x-ratelimit-limit" not in answers[0].headers


async def test_a_probe_is_answered_although_its_token_cannot_be_checked(redis: RedisClient) -> None:
    environ = {"JWT_JWKS_URL": "http://127.0.0.1:1/", "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
    headers = bearer(Issuer().token())
    async with open_replica(redis, **environ) as client:
        answers = [await client.get(path, headers=headers) for path in ("/live", "/health", "/readers")]
    assert [answer.status_code for answer in answers] == [200, 200, 503]


@pytest.mark.parametrize(
    "environ",
    [{}, {"RATE_LIMIT_REQUESTS_PER_MINUTE": "0", **TOKENS}],
    ids=["no authentication", "limit of zero"],
)
async def test_there_is_no_limit(redis: RedisClient, environ: dict[str, str]) -> None:
    async with open_replica(redis, **environ) as client:
        answers = [await client.get("/counts-itself") for _ in range(120)]
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[0].headers


async def test_without_redis_nobody_is_limited() -> None:
    nowhere = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(nowhere) as redis, open_replica(redis, **LIMITS, **TOKENS) as client:
        answers = [await client.get("/readers", headers=bearer("first")) for _ in range(7)]
        metrics = (await client.get("/metrics")).text
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[-1].headers
    assert 'http_rate_limit_decisions_total{outcome="not_counted"} 7.0' in metrics


# Tokens in a file


async def test_a_token_that_is_put_into_the_file_opens_without_a_restart_and_one_taken_out_does_not(
    redis: RedisClient, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    await asyncio.to_thread(file.write_text, "old\n")
    async with open_replica(redis, API_TOKEN_FILE=str(file), CREDENTIAL_ROTATION_INTERVAL="20ms") as client:
        before = (await client.get("/readers", headers=bearer("old"))).status_code
        await asyncio.to_thread(file.write_text, "crm:read_only:new\n")

        async def new_opens() -> bool:
            return (await client.get("/readers", headers=bearer("new"))).status_code == 200

        await eventually(new_opens)
        after = (await client.get("/readers", headers=bearer("old"))).status_code
    assert (before, after) == (200, 401)


@pytest.mark.parametrize("content", ["", "crm:nobody:hunter2", None], ids=["empty", "unreadable", "gone"])
async def test_a_file_without_tokens_changes_nothing_and_is_told(
    redis: RedisClient, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "tokens"
    await asyncio.to_thread(file.write_text, "old")
    environ = {"API_TOKEN_FILE": str(file), "CREDENTIAL_ROTATION_INTERVAL": "10ms"}
    with structlog.testing.capture_logs() as told:
        async with open_replica(redis, **environ) as client:
            await asyncio.to_thread(file.unlink if content is None else partial(file.write_text, content))

            async def is_told() -> bool:
                return any(line["event"] == "credentials_not_read" for line in told)

            await eventually(is_told)
            statuses = [(await client.get("/readers", headers=bearer(token))).status_code for token in ("old", "x")]
    assert (statuses, "hunter2" in str(told)) == ([200, 401], False)


# Addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:5050"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:5050"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        (None, ["203.0.113.9"], None),
    ],
    ids=repr,
)
def test_the_client_is_the_nearest_address_that_is_not_ours(
    peer: str | None, forwarded: list[str], seen: str | None
) -> None:
    scope = {
        "type": "http",
        "headers": [(b"x-forwarded-for", line.encode()) for line in forwarded],
        "client": None if peer is None else (peer, 4321),
    }
    address = find_client_address(Request(scope), [ip_network("10.0.0.0/8")])
    assert address == (None if seen is None else ip_address(seen))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_subscriber_is_an_ipv4_address_or_an_ipv6_network(one: str, other: str, same: bool) -> None:
    assert (name_subscriber(ip_address(one)) == name_subscriber(ip_address(other))) == same


@pytest.mark.parametrize(("address", "status"), [("203.0.113.7", 200), ("203.0.114.7", 403), ("2001:db8::1", 403)])
async def test_only_listed_networks_may_call(redis: RedisClient, address: str, status: int) -> None:
    async with open_replica(redis, address=address, IP_ALLOWLIST="203.0.113.0/24") as client:
        answers = [await client.get("/open"), await client.get("/live")]
    assert [answer.status_code for answer in answers] == [status, 200]


async def test_a_client_cannot_say_that_it_calls_from_a_listed_network(redis: RedisClient) -> None:
    async with open_replica(redis, IP_ALLOWLIST="203.0.113.0/24", TRUSTED_PROXIES="10.0.0.0/8") as client:
        answer = await client.get("/open", headers={"X-Forwarded-For": "203.0.113.7"})
    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")


# Headers


async def test_every_answer_has_the_security_headers(redis: RedisClient) -> None:
    async with open_replica(redis) as client:
        for path in ("/open", "/nowhere", "/live"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert headers["strict-transport-security"] == "max-age=31536000"


async def test_a_routes_own_header_goes_before(redis: RedisClient) -> None:
    async with open_replica(redis) as client:
        headers = (await client.get("/headers")).headers
    assert headers.get_list("content-security-policy") == ["default-src 'self'"]


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"ENABLE_SECURITY_HEADERS": "false"}, "x-frame-options"),
        ({"HSTS_MAX_AGE": "0"}, "strict-transport-security"),
    ],
    ids=["all", "hsts"],
)
async def test_the_headers_can_be_switched_off(redis: RedisClient, environ: dict[str, str], missing: str) -> None:
    async with open_replica(redis, **environ) as client:
        assert missing not in (await client.get("/open")).headers


async def test_pages_of_an_allowed_origin_may_call_and_read_the_headers(redis: RedisClient) -> None:
    environ = {"CORS_ALLOWED_ORIGINS": "https://panel.example", **TOKENS, **LIMITS}
    async with open_replica(redis, **environ) as client:
        asked = {
            "Origin": "https://panel.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,idempotency-key",
        }
        preflight = await client.options("/readers", headers=asked)
        refused = await client.get("/readers", headers={"Origin": "https://panel.example"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "https://panel.example")
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://panel.example")
    assert "X-RateLimit-Remaining" in refused.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("environ", "origin"),
    [({}, "https://panel.example"), ({"CORS_ALLOWED_ORIGINS": "https://panel.example"}, "https://evil.example")],
    ids=["none allowed", "another allowed"],
)
async def test_pages_of_other_origins_may_not(redis: RedisClient, environ: dict[str, str], origin: str) -> None:
    async with open_replica(redis, **environ) as client:
        answer = await client.get("/open", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers
