"""The HTTP side that all services share: what every request gets, whatever its route does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from eai_common.clock import SystemClock
from eai_common.credentials import parse_api_tokens
from eai_common.health import Health, make_probe_routes
from eai_common.http import (
    Access,
    ErrorBody,
    HttpError,
    HttpResources,
    Role,
    SecurityPolicy,
    bind_socket,
    build_app,
    json_response,
    require,
    serve,
)
from eai_common.http.errors import FieldError
from eai_common.ids import Ids
from eai_common.settings import HttpSettings, SecuritySettings, TelemetrySettings
from eai_common.telemetry import Metrics, open_tracing, trace_id
from eai_common.telemetry.testing import CapturedLog, captured_log
from eai_common.testing import RANDOM, eventually, run_ready

TRACE = "0af7651916cd43dd8448eb211c80319c"
KIB = 1024
LONG_TOKEN = "x" * 4000


async def echo(request: Request) -> Response:
    return json_response({"size": len(await request.body()), "trace": trace_id()})


async def broken(request: Request) -> Response:
    raise RuntimeError("the password is hunter2")


async def guarded(request: Request) -> Response:
    require(request, Role.READ_ONLY)
    return json_response({})


async def refused(request: Request) -> Response:
    body = ErrorBody("Invalid", "no", [FieldError("user_number", "is missing")], {"limit": 3})
    raise HttpError(422, body, headers={"Retry-After": "7"})


ROUTES = [
    Route("/echo/{name}", echo, methods=["GET", "POST"]),
    Route("/broken", broken),
    Route("/guarded", guarded),
    Route("/refused", refused),
]


TOKENS = "first,second,olá-token," + LONG_TOKEN


@pytest.fixture()
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture()
def health() -> Health:
    return Health("formatter", is_started=True)


@pytest.fixture()
def app(metrics: Metrics, health: Health) -> ASGIApp:
    telemetry = TelemetrySettings.read({})
    resources = HttpResources(
        ids=Ids(SystemClock(), RANDOM),
        metrics=metrics,
        tracing=open_tracing(telemetry, service="test"),
        settings=HttpSettings.read(
            {
                "MAX_REQUEST_SIZE_MB": "0.01",
                "UPLOAD_TIMEOUT_SECONDS": "2",
            }
        ),
        telemetry_settings=telemetry,
        policy=SecurityPolicy(Access(parse_api_tokens(TOKENS)), SecuritySettings.read({})),
    )
    return build_app([*ROUTES, *make_probe_routes(health, metrics, "/metrics")], resources)


@pytest.fixture()
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture()
def logged() -> Iterator[CapturedLog]:
    with captured_log(service="test") as captured:
        yield captured


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * KIB


# Errors

ERRORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no such path": ({"method": "GET", "url": "/nowhere"}, 404, "Not Found"),
    "method not taken": ({"method": "DELETE", "url": "/echo/a"}, 405, "Method Not Allowed"),
    "too large, as declared": (
        {"method": "POST", "url": "/echo/a", "content": b"x" * 20 * KIB},
        413,
        "Payload too large",
    ),
    "too large, streamed": ({"method": "POST", "url": "/echo/a", "content": chunks(20)}, 413, "Payload too large"),
    "no token": ({"method": "GET", "url": "/guarded"}, 401, "Unauthorized"),
    "our own refusal": ({"method": "GET", "url": "/refused"}, 422, "Invalid"),
    "our bug": ({"method": "GET", "url": "/broken"}, 500, "Internal server error"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_every_error_is_json_with_its_request_id(client: httpx.AsyncClient, name: str) -> None:
    request, status, error = ERRORS[name]
    request = {**request, "content": chunks(20)} if "streamed" in name else request
    answer = await client.request(**request, headers={"X-Request-ID": "abc"})
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"], answer.headers.get_list("x-request-id")) == (
        status,
        "application/json",
        ["abc"],
    )
    assert (body["error"], body["request_id"], bool(body["message"])) == (error, "abc", True)


async def test_a_method_that_is_not_taken_is_answered_with_those_that_are(client: httpx.AsyncClient) -> None:
    allowed = (await client.delete("/echo/a")).headers["allow"]
    assert {method.strip() for method in allowed.split(",")} == {"GET", "HEAD", "POST"}


async def test_a_bug_is_answered_without_internals(client: httpx.AsyncClient) -> None:
    assert not re.search("hunter2|RuntimeError|Traceback", (await client.get("/broken")).text)


async def test_a_bug_reaches_the_test_with_its_traceback(app: ASGIApp) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        with pytest.raises(RuntimeError, match="hunter2"):
            await client.get("/broken")


async def test_a_refusal_carries_its_details_extras_and_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/refused")
    body = answer.json()
    assert (body["details"], body["limit"]) == ([{"field": "user_number", "message": "is missing"}], 3)
    assert answer.headers["retry-after"] == "7"


# The size of a body


@pytest.mark.parametrize("streamed", [False, True], ids=["declared", "streamed"])
async def test_a_body_up_to_the_limit_is_taken(client: httpx.AsyncClient, streamed: bool) -> None:
    content = chunks(10) if streamed else b"x" * 10 * KIB
    assert (await client.post("/echo/a", content=content)).json()["size"] == 10 * KIB


@pytest.mark.parametrize("declared", ["1", "abc", "-5", "", "9" * 30, "１"], ids=ascii)
async def test_what_a_length_says_does_not_save_a_body_that_is_too_large(app: ASGIApp, declared: str) -> None:
    answer = await raw_post(app, [b"x" * KIB] * 20, content_length=declared)
    assert answer[0]["status"] == 413


async def test_a_body_that_stops_coming_is_not_waited_for(app: ASGIApp) -> None:
    sent: list[Message] = []
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/echo/a",
        "headers": [],
        "query_string": b"",
        "client": None,
    }
    pieces = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(30):
        await app(scope, receive, send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]) == (408, "Request timeout")


async def test_a_client_that_leaves_in_the_middle_is_no_bug(app: ASGIApp, metrics: Metrics) -> None:
    await raw_post(app, [b"x"], disconnects=True)
    assert b'status="500"' not in metrics.exposition()


async def raw_post(
    app: ASGIApp, body: list[bytes], *, content_length: str | None = None, disconnects: bool = False
) -> list[Message]:
    """What the app sends to a client that httpx would not let us be."""
    coming: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    coming.append({"type": "http.disconnect"} if disconnects else {"type": "http.request", "body": b""})
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if content_length is None else [(b"content-length", content_length.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/echo/a",
        "raw_path": b"/echo/a",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("gateway", 80),
    }
    await app(scope, receive, send)
    return sent


# The request's id and trace


async def test_the_callers_ids_of_a_request_and_of_what_it_is_a_part_of_come_back_each_as_it_was(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/live", headers={"X-Request-ID": "one", "X-Correlation-ID": "all"})
    assert (answer.headers["x-request-id"], answer.headers["x-correlation-id"]) == ("one", "all")


@pytest.mark.parametrize("header", ["X-Request-ID", "x-correlation-id"])
async def test_a_request_keeps_the_id_that_it_came_with(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/echo/a", headers={header: "channel-42"})
    assert (answer.headers["x-request-id"], answer.headers["x-correlation-id"]) == ("channel-42", "channel-42")


@pytest.mark.parametrize(
    "given_id", [None, "", "x" * 129, "a\tb", "é"], ids=["none", "empty", "long", "tab", "not ascii"]
)
async def test_a_request_without_a_usable_id_gets_one(client: httpx.AsyncClient, given_id: str | None) -> None:
    headers = {} if given_id is None else {"X-Request-ID": given_id.encode("latin-1")}
    answer = await client.get("/echo/a", headers=headers)  # type: ignore[arg-type]
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_two_requests_get_different_ids(client: httpx.AsyncClient) -> None:
    one, other = [await client.get("/live") for _ in range(2)]
    assert one.headers["x-request-id"] != other.headers["x-request-id"]


async def test_a_request_continues_the_callers_trace(client: httpx.AsyncClient) -> None:
    answer = await client.get("/echo/a", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert answer.json()["trace"] == TRACE


# Metrics and logs


async def test_metrics_name_the_route_and_never_the_path(client: httpx.AsyncClient, metrics: Metrics) -> None:
    for path in ("/echo/5521999990000", "/echo/b", "/nowhere/5521999990000"):
        await client.get(path)
    await client.request("BREW", "/echo/a")
    exposed = metrics.exposition().decode()
    assert {line for line in exposed.splitlines() if line.startswith("http_requests_total")} == {
        'http_requests_total{endpoint="/echo/{name}",method="GET",status="200"} 2.0',
        'http_requests_total{endpoint="unmatched",method="GET",status="404"} 1.0',
        'http_requests_total{endpoint="/echo/{name}",method="other",status="405"} 1.0',
    }
    assert "5521999990000" not in exposed


@pytest.mark.parametrize("name", ["our bug", "too large, as declared", "no token"])
async def test_errors_are_counted_by_their_status(client: httpx.AsyncClient, metrics: Metrics, name: str) -> None:
    request, status, _ = ERRORS[name]
    await client.request(**request)
    endpoint = str(request["url"]).replace("/a", "/{name}")
    labels = f'endpoint="{endpoint}",method="{request["method"]}",status="{status}"'
    assert f"http_requests_total{{{labels}}} 1.0" in metrics.exposition().decode()


async def test_a_request_that_is_being_answered_counts_as_in_flight(
    client: httpx.AsyncClient, metrics: Metrics
) -> None:
    during = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith("http_requests_in")]
    after = [line for line in metrics.exposition().decode().splitlines() if line.startswith("http_requests_in")]
    assert (during, after) == (["http_requests_in_flight 1.0"], ["http_requests_in_flight 0.0"])


async def test_a_request_is_one_line_in_the_log(client: httpx.AsyncClient, logged: CapturedLog) -> None:
    headers = {"X-Request-ID": "abc", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    await client.get("/echo/5521999990000?token=hunter2", headers=headers)
    line = logged.line
    changing = {name: line.pop(name) for name in ("timestamp", "duration_ms", "span_id", "worker_id")}
    assert line == {
        "level": "info",
        "logger": "eai.http",
        "service": "test",
        "event": "request_answered",
        "method": "GET",
        "endpoint": "/echo/{name}",
        "status": 200,
        "request_id": "abc",
        "correlation_id": "abc",
        "trace_id": TRACE,
    }
    assert all(changing.values())
    assert "hunter2" not in str(line)


async def test_probes_do_not_fill_the_log(client: httpx.AsyncClient, logged: CapturedLog) -> None:
    for path in ("/live", "/ready", "/health", "/metrics"):
        await client.get(path)
    assert logged.lines == []


# Tokens


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer first"}, 200),
        ({"Authorization": "bearer second"}, 200),
        ({"X-API-Key": "second"}, 200),
        ({"Authorization": "Basic abc", "X-API-Key": "first"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "first"}, 401),
        ({"Authorization": "Basic first"}, 401),
        ({"Authorization": "Bearer FIRST"}, 401),
        ({"Authorization": "Bearer first,second"}, 401),
        ({"Authorization": "Bearer firs"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": "Bearer \udce9"}, 401),
    ],
    ids=lambda value: ascii(value),
)
async def test_a_token_opens_and_nothing_else_does(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}
    answer = await client.get("/guarded", headers=sent)  # type: ignore[arg-type]
    assert answer.status_code == status


async def test_a_refused_client_is_told_how_to_authenticate(client: httpx.AsyncClient) -> None:
    answer = await client.get("/guarded")
    assert answer.headers["www-authenticate"] == 'Bearer realm="eai"'
    assert answer.json()["message"] == "Invalid or missing authentication token"


@pytest.mark.parametrize("token", ["olá-token", LONG_TOKEN], ids=["not ASCII", "long"])
async def test_any_token_that_was_configured_opens(client: httpx.AsyncClient, token: str) -> None:
    answer = await client.get("/guarded", headers={b"Authorization": b"Bearer " + token.encode()})
    assert answer.status_code == 200


async def test_without_tokens_everything_is_open() -> None:
    transport = httpx.ASGITransport(app_with(Route("/guarded", guarded)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get("/guarded")).status_code == 200


def test_no_token_is_kept_in_the_clear() -> None:
    assert "hunter2" not in repr(HttpSettings.read({"API_TOKEN": "hunter2,ops:admin:hunter22"}).tokens)


# Probes


async def works() -> bool:
    return True


async def fails() -> bool:
    return False


@pytest.mark.parametrize(
    ("is_started", "is_stopping", "checks", "status", "failing"),
    [
        (True, False, {}, 200, []),
        (True, False, {"redis": works}, 200, []),
        (True, False, {"redis": works, "rabbitmq": fails}, 503, ["rabbitmq"]),
        (False, False, {"redis": works}, 503, []),
        (True, True, {"redis": works}, 503, []),
    ],
    ids=["nothing needed", "all works", "one fails", "not started", "stopping"],
)
async def test_ready_means_started_not_stopping_and_all_it_needs_works(
    client: httpx.AsyncClient,
    health: Health,
    is_started: bool,
    is_stopping: bool,
    checks: dict[str, Any],
    status: int,
    failing: list[str],
) -> None:
    health.is_started, health.is_stopping, health.checks = is_started, is_stopping, checks
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["failing"]) == (status, failing)


async def test_live_depends_on_nothing_outside(client: httpx.AsyncClient, health: Health) -> None:
    health.is_started, health.checks = False, {"redis": fails}
    assert (await client.get("/live")).status_code == 200


async def test_metrics_are_in_prometheus_text_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE http_requests_total counter" in answer.text


def test_without_a_path_there_are_no_metrics(metrics: Metrics, health: Health) -> None:
    assert [route.path for route in make_probe_routes(health, metrics, None)] == [
        "/live",
        "/ready",
        "/health",
        "/health/{dependency}",
    ]


# The server


@asynccontextmanager
async def served(app: ASGIApp, *, grace_s: float = 5) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Event]]:
    """The app on a port of its own, a client of it, and what stops it; stopped at the end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        listener = bind_socket("127.0.0.1", 0)
        serving = group.create_task(serve(app, listener, stop, grace_s=grace_s))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
            try:
                await answering(client)
                yield client, stop
            finally:
                stop.set()
                await serving
                listener.close()


async def answering(client: httpx.AsyncClient) -> None:
    async def answers() -> bool:
        try:
            return bool(await client.get("/live"))
        except httpx.TransportError:
            return False

    await eventually(answers)


async def test_a_served_app_answers_until_it_is_stopped(app: ASGIApp) -> None:
    async with served(app) as (client, _):
        answer = await client.get("/live")
    assert (answer.json(), "server" in answer.headers) == ({"status": "alive"}, False)


@pytest.mark.parametrize("streamed", [False, True], ids=["declared", "streamed"])
@pytest.mark.parametrize("kib", [11, 2000])
async def test_a_client_whose_body_is_too_large_gets_to_see_the_answer(app: ASGIApp, streamed: bool, kib: int) -> None:
    content = chunks(kib) if streamed else b"x" * kib * KIB
    async with served(app) as (client, _):
        answer = await client.post("/echo/a", content=content)
    assert (answer.status_code, answer.json()["error"]) == (413, "Payload too large")


async def test_a_request_in_work_is_answered_before_the_server_ends() -> None:
    may_answer, is_in_work = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        is_in_work.set()
        await may_answer.wait()
        return json_response({"done": True})

    async with served(app_with(Route("/slow", slow))) as (client, stop):
        asking = asyncio.create_task(client.get("/slow"))
        await is_in_work.wait()
        stop.set()
        await run_ready()
        may_answer.set()
        assert (await asking).json() == {"done": True}


async def test_a_request_that_takes_longer_than_the_grace_is_cut() -> None:
    is_in_work = asyncio.Event()

    async def endless(request: Request) -> Response:
        is_in_work.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with served(app_with(Route("/slow", endless)), grace_s=1) as (client, stop):
        asking = asyncio.create_task(client.get("/slow"))
        await is_in_work.wait()
        stop.set()
        with pytest.raises(httpx.HTTPError):
            (await asking).raise_for_status()


def app_with(route: Route) -> ASGIApp:
    """An app with this route."""
    telemetry = TelemetrySettings.read({})
    resources = HttpResources(
        Ids(SystemClock(), RANDOM),
        Metrics(),
        open_tracing(telemetry, service="test"),
        HttpSettings.read({}),
        telemetry,
        SecurityPolicy(Access(), SecuritySettings.read({})),
    )
    return build_app([route, *make_probe_routes(Health("test"), resources.metrics, None)], resources)


def test_a_port_that_is_taken_is_named() -> None:
    with bind_socket("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            bind_socket("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(OSError, match="cannot listen on 192.0.2.1:0"):
        bind_socket("192.0.2.1", 0)
