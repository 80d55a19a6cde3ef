"""How a process tells of its health: what it looks at, how often, and what it makes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from eai_common.broker.memory import MemoryBroker
from eai_common.broker.testing import eventually
from eai_common.clock import SystemClock
from eai_common.dependencies import broker_dependency, chosen, provider_dependencies, redis_dependency
from eai_common.gateway_health import HealthWriter, gateway_dependency
from eai_common.guards import BreakerRules, CircuitBreaker
from eai_common.health import Dependencies, Dependency, Finding, Status
from eai_common.http import HttpParts, build_app, probe_routes
from eai_common.ids import Ids
from eai_common.service import CommonSettings, Parts
from eai_common.service_health import health_of
from eai_common.settings import HealthSettings, RedisSettings, SettingsError, load
from eai_common.store import HealthBoard, Note, Redis, open_memory_redis, open_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock, pass_time
from eai_common.watch import watch_broker, watch_pool

AT = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
TTL, PATIENCE = timedelta(seconds=30), timedelta(seconds=1)


@dataclass
class Thing:
    """Something that can be told how to be found."""

    status: Status = "healthy"
    details: dict[str, Any] = field(default_factory=dict)
    times_looked: int = 0
    is_stuck: bool = False

    async def look(self) -> Finding:
        self.times_looked += 1
        await asyncio.sleep(60 if self.is_stuck else 0)
        return Finding(self.status, self.details)


def dependencies(clock: LoopClock, *them: Dependency, patience: timedelta = PATIENCE) -> Dependencies:
    return Dependencies(them, clock, ttl=TTL, patience=patience)


@pytest.fixture()
def clock() -> LoopClock:
    return LoopClock(AT)


@pytest.fixture()
async def redis() -> AsyncIterator[Redis]:
    async with open_memory_redis() as redis:
        yield redis


# Looking


@pytest.mark.virtual_time()
async def test_many_that_ask_at_once_cost_one_look(clock: LoopClock) -> None:
    thing = Thing()
    looked_at = dependencies(clock, Dependency("redis", thing.look))
    await asyncio.gather(*(looked_at.findings() for _ in range(50)))
    assert thing.times_looked == 1


@pytest.mark.parametrize(("passed_s", "times"), [(29.9, 1), (30.0, 2)])
@pytest.mark.virtual_time()
async def test_a_finding_is_kept_for_its_time(clock: LoopClock, passed_s: float, times: int) -> None:
    thing = Thing()
    looked_at = dependencies(clock, Dependency("redis", thing.look))
    await looked_at.finding("redis")
    await pass_time(timedelta(seconds=passed_s))
    await looked_at.finding("redis")
    assert thing.times_looked == times


@pytest.mark.virtual_time()
async def test_what_does_not_answer_in_time_is_unhealthy_and_holds_up_nothing_else(clock: LoopClock) -> None:
    looked_at = dependencies(
        clock,
        Dependency("redis", Thing(is_stuck=True).look),
        Dependency("rabbitmq", Thing().look),
        patience=timedelta(milliseconds=50),
    )
    async with asyncio.timeout(5):
        findings = await looked_at.findings()
    assert {name: finding.status for name, finding in findings.items()} == {
        "redis": "unhealthy",
        "rabbitmq": "healthy",
    }
    assert findings["redis"].details["error"] == "no answer within 0.05 s"


@pytest.mark.parametrize(
    ("redis", "google", "verdict"),
    [
        ("healthy", "healthy", "healthy"),
        ("healthy", "degraded", "degraded"),
        ("healthy", "unhealthy", "degraded"),
        ("degraded", "healthy", "degraded"),
        ("unhealthy", "healthy", "unhealthy"),
        ("unhealthy", "unhealthy", "unhealthy"),
    ],
)
@pytest.mark.virtual_time()
async def test_only_what_is_needed_makes_a_process_unhealthy(
    clock: LoopClock, redis: Status, google: Status, verdict: Status
) -> None:
    looked_at = dependencies(
        clock,
        Dependency("redis", Thing(redis).look, is_needed=True),
        Dependency("google_speech", Thing(google).look),
    )
    assert looked_at.verdict(await looked_at.findings()) == verdict


@pytest.mark.virtual_time()
async def test_only_the_named_dependencies_are_looked_at(clock: LoopClock) -> None:
    settings = HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "redis"})
    them = [Dependency("redis", Thing().look), Dependency("rabbitmq", Thing().look)]
    assert (chosen(them, settings, clock).names, chosen(them, HealthSettings.read({}), clock).names) == (
        ("redis",),
        ("redis", "rabbitmq"),
    )


def test_a_dependency_that_is_none_is_a_mistake() -> None:
    assert HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "true"}).health_check_dependencies == ()
    with pytest.raises(SettingsError, match="HEALTH_CHECK_DEPENDENCIES: got .*, takes names .*, of redis, rabbitmq"):
        HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "redis,oracle"})


# What is looked at


async def test_redis_is_told_with_its_pool(redis_server: Any) -> None:
    settings = RedisSettings.read({"REDIS_URL": redis_server.url, "REDIS_POOL_SIZE": "7"})
    async with open_redis(settings) as redis:
        found = await redis_dependency(redis, is_needed=True).look()
        most = redis.connection_pool.max_connections
    assert (found, most >= 7) == (Finding("healthy", {"pool": {"active": 0, "idle": 1, "max": most}}), True)


async def test_a_redis_that_is_gone_is_unhealthy() -> None:
    async with open_redis(RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})) as redis:
        found = await redis_dependency(redis, is_needed=True).look()
    assert (found.status, found.details["error"]) == ("unhealthy", "ConnectionError")


async def test_the_broker_is_told_with_the_depth_of_each_queue() -> None:
    topology = load(CommonSettings, {}).broker.topology
    async with MemoryBroker(topology, SystemClock()) as broker:
        queues = [queue.name for queue in topology.stage_queues]
        look = broker_dependency(broker, queues, is_needed=True).look
        up = await look()
        broker.go_down()
        down = await look()
    assert up == Finding("healthy", {"queue_depths": dict.fromkeys(queues, 0)})
    assert down.status == "unhealthy"


@pytest.mark.parametrize(("failures", "status"), [(0, "healthy"), (1, "healthy"), (2, "unhealthy")])
async def test_a_provider_is_as_its_breaker_finds_it(failures: int, status: Status) -> None:
    metrics = Metrics()
    breaker = CircuitBreaker(
        "google_speech",
        BreakerRules(failures_to_open=2),
        judge=lambda error: True,
        random=random.random,
        metrics=metrics,
    )
    (dependency,) = provider_dependencies(metrics)
    for _ in range(failures):
        with pytest.raises(ConnectionError), breaker.call():
            raise ConnectionError
    assert (dependency.name, (await dependency.look()).status, dependency.is_needed) == (
        "google_speech",
        status,
        False,
    )


# The whole gateway


def note(service: str, instance: str, status: Status, at: datetime = AT, **told: Status) -> Note:
    return Note(service, instance, status, told, at)


@asynccontextmanager
async def board_with(redis: Redis, *notes: Note) -> AsyncIterator[HealthBoard]:
    board = HealthBoard(redis, timedelta(seconds=90))
    for one in notes:
        await board.write(one)
    yield board


@pytest.mark.virtual_time()
async def test_what_every_process_wrote_down_is_told_together(redis: Redis, clock: LoopClock) -> None:
    notes = [
        note("ingress", "a", "healthy", rabbitmq="healthy", redis="healthy"),
        note("transcriber", "b", "degraded", rabbitmq="healthy", google_speech="unhealthy"),
        note("transcriber", "c", "healthy", rabbitmq="healthy", google_speech="healthy"),
    ]
    async with board_with(redis, *notes) as board:
        found = await gateway_dependency(board, clock, ["ingress", "transcriber", "formatter"]).look()
    assert found.status == "unhealthy"
    assert found.details == {
        "services": {
            "ingress": {"status": "healthy", "instances": 1},
            "transcriber": {"status": "degraded", "instances": 2},
            "formatter": {"status": "unhealthy", "instances": 0},
        },
        "dependencies": {"google_speech": "degraded", "rabbitmq": "healthy", "redis": "healthy"},
    }


@pytest.mark.virtual_time()
async def test_a_note_that_was_not_renewed_counts_no_more(redis: Redis, clock: LoopClock) -> None:
    async with board_with(redis, note("ingress", "dead", "healthy"), note("ingress", "b", "healthy")) as board:
        await pass_time(timedelta(seconds=91))
        await board.write(note("ingress", "b", "degraded", clock.now()))
        assert [(one.instance, one.status) for one in await board.read(clock.now())] == [("b", "degraded")]
        assert await redis.hkeys("health:board") == [b"ingress:b"]
        assert 0 < await redis.ttl("health:board") <= 90


@pytest.mark.virtual_time()
async def test_who_tells_of_all_does_not_write_down_what_it_made_of_the_notes(redis: Redis, clock: LoopClock) -> None:
    async with board_with(redis, note("ingress", "a", "unhealthy")) as board:
        looked_at = dependencies(
            clock,
            Dependency("redis", Thing().look, is_needed=True),
            gateway_dependency(board, clock, ["ingress", "transcriber"]),
        )
        writing = asyncio.create_task(HealthWriter(board, "poller", "b", looked_at, clock, TTL).run())

        async def has_written() -> bool:
            return note("poller", "b", "healthy", redis="healthy") in await board.read(AT)

        await eventually(has_written)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.virtual_time()
async def test_a_process_has_its_note_up_until_it_ends(redis: Redis, clock: LoopClock) -> None:
    looked_at = dependencies(clock, Dependency("redis", Thing("degraded").look, is_needed=True))
    async with board_with(redis) as board:
        writer = HealthWriter(board, "formatter", "a", looked_at, clock, TTL)
        writing = asyncio.create_task(writer.run())

        async def is_up() -> bool:
            return await board.read(AT) == [note("formatter", "a", "degraded", redis="degraded")]

        await eventually(is_up)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await board.read(AT) == []


# Over HTTP


@asynccontextmanager
async def open_service(
    *, tells_of_all: bool = False, **environ: str
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryBroker, Redis]]:
    """A client of a service that needs both servers, as its wiring makes its health."""
    settings, clock, metrics = load(CommonSettings, environ), SystemClock(), Metrics()
    tracing = open_tracing(settings.telemetry, service="test")
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_memory_redis())
        broker = await stack.enter_async_context(MemoryBroker(settings.broker.topology, clock))
        parts = Parts(redis, clock, RANDOM, Ids(clock, RANDOM), metrics, tracing, opened_broker=broker)
        health = health_of("tester", frozenset({"rabbitmq"}), settings, parts, tells_of_all=tells_of_all)
        health.is_started = True
        app = build_app(
            probe_routes(health, metrics, "/metrics"),
            HttpParts(parts.ids, metrics, tracing, settings.http, settings.telemetry),
        )
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway"))
        yield client, broker, redis


async def test_health_tells_each_dependency_and_the_process() -> None:
    async with open_service() as (client, _, _):
        body = (await client.get("/health")).json()
    assert body["services"] == {"redis": {"status": "healthy"}, "rabbitmq": {"status": "healthy"}}
    assert (body["status"], body["service"], bool(body["version"])) == ("healthy", "tester", True)
    assert body["system"]["memory_usage_mb"] > 1
    assert body["system"]["asyncio_tasks"] >= 1
    assert body["system"].keys() == {"memory_usage_mb", "cpu_usage_percent", "asyncio_tasks", "uptime_seconds"}


async def test_the_detail_tells_pool_depths_and_when_it_was_looked_at() -> None:
    async with open_service() as (client, _, _):
        services = (await client.get("/health?detail=true")).json()["services"]
    assert services["redis"].keys() == {"status", "pool", "checked_at", "response_time_ms"}
    assert services["rabbitmq"]["queue_depths"]["eai.transcriber"] == 0


async def test_a_needed_dependency_that_is_down_makes_it_unhealthy_once_it_is_looked_at_again() -> None:
    async with open_service(HEALTH_CHECK_CACHE_TTL="0.2s") as (client, broker, _):
        before = (await client.get("/health")).status_code
        broker.go_down()
        kept = (await client.get("/health")).status_code

        async def is_unhealthy() -> bool:
            answer = await client.get("/health")
            return answer.status_code == 503 and answer.json()["status"] == "unhealthy"

        await eventually(is_unhealthy)
    assert (before, kept) == (200, 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health/redis", 200), ("/health/rabbitmq", 503), ("/health/oracle", 404)],
)
async def test_one_dependency_can_be_asked_for(path: str, status: int) -> None:
    async with open_service() as (client, broker, _):
        broker.go_down()
        answer = await client.get(path)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/health", None, 200),
        ("/health?detail=true", None, 401),
        ("/health?detail=true", "secret", 200),
        ("/health/redis", None, 401),
        ("/health/redis", "secret", 200),
    ],
)
async def test_details_are_for_those_who_may_read(path: str, token: str | None, status: int) -> None:
    headers = {"X-API-Key": token} if token is not None else {}
    async with open_service(API_TOKEN="dash:read_only:secret") as (client, _, _):
        assert (await client.get(path, headers=headers)).status_code == status


async def test_details_can_be_switched_off() -> None:
    async with open_service(ENABLE_DETAILED_HEALTH_CHECKS="false") as (client, _, _):
        one, detailed = await client.get("/health/redis"), await client.get("/health?detail=true")
    assert (one.status_code, detailed.json()["services"]["redis"]) == (404, {"status": "healthy"})


async def test_who_tells_of_all_tells_what_others_depend_on_and_is_only_degraded_by_them() -> None:
    async with open_service(tells_of_all=True) as (client, _, redis):
        board = HealthBoard(redis, TTL)
        now = datetime.now(UTC)
        for service in ("ingress", "transcriber", "agent-router", "formatter"):
            await board.write(note(service, "a", "healthy", now, google_agent_engine="unhealthy"))
        answer = await client.get("/health")
        one = await client.get("/health/google_agent_engine")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    assert body["services"]["google_agent_engine"] == {"status": "unhealthy"}
    assert body["gateway"]["formatter"] == {"status": "healthy", "instances": 1}
    assert one.status_code == 503


# Metrics


async def test_the_gauges_of_servers_and_calls_are_there(redis: Redis) -> None:
    metrics = Metrics()
    watch_pool(redis, metrics)
    await redis.ping()
    topology = load(CommonSettings, {}).broker.topology
    stop = asyncio.Event()
    async with MemoryBroker(topology, SystemClock()) as broker:
        watching = asyncio.create_task(watch_broker(broker, ["eai.transcriber"], metrics, stop))

        async def is_watched() -> bool:
            return b"rabbitmq_queue_depth_total 0.0" in metrics.exposition()

        await eventually(is_watched)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    with pytest.raises(ConnectionError), metrics.external_call("openai"):
        raise ConnectionError
    told = metrics.exposition().decode()
    assert "redis_connections_active 1.0" in told
    assert "redis_connection_pool_active 0.0" in told
    assert "redis_connection_pool_max " in told
    assert 'external_api_errors_total{service="openai"} 1.0' in told
