"""The health of a process: its checks, the reports of all processes, and the probes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from eai_common.broker.memory import MemoryBroker
from eai_common.clock import Deadline, SystemClock
from eai_common.guards import BreakerRules, Call, CircuitBreaker
from eai_common.health import (
    Dependencies,
    Dependency,
    Finding,
    HealthReport,
    HealthReporter,
    HealthReports,
    HealthSettings,
    Status,
    bind_pool_gauges,
    make_broker_dependency,
    make_gateway_dependency,
    make_provider_dependencies,
    make_redis_dependency,
    record_broker_gauges,
    select_dependencies,
)
from eai_common.process import BrokerResources, CommonSettings, Service, ServiceDefinition
from eai_common.process.testing import open_in_memory
from eai_common.settings import RedisSettings, SettingsError, load
from eai_common.store import RedisClient, open_memory_redis, open_redis
from eai_common.telemetry import Metrics
from eai_common.testing import LoopClock, eventually, pass_time, run_ready

AT = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
TTL, TIMEOUT = timedelta(seconds=30), timedelta(seconds=1)


@dataclass
class Thing:
    """Something that can be told how to be found."""

    status: Status = "healthy"
    details: dict[str, Any] = field(default_factory=dict)
    times_checked: int = 0
    is_stuck: bool = False

    async def check(self) -> Finding:
        self.times_checked += 1
        await (asyncio.Event().wait() if self.is_stuck else run_ready(1))
        return Finding(self.status, self.details)


def dependencies(clock: LoopClock, *them: Dependency, timeout: timedelta = TIMEOUT) -> Dependencies:
    return Dependencies(them, clock, ttl=TTL, timeout=timeout)


@pytest.fixture()
def clock() -> LoopClock:
    return LoopClock(AT)


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as redis:
        yield redis


# Checks


@pytest.mark.virtual_time()
async def test_concurrent_callers_share_one_check(clock: LoopClock) -> None:
    thing = Thing()
    checked = dependencies(clock, Dependency("redis", thing.check))
    await asyncio.gather(*(checked.findings() for _ in range(50)))
    assert thing.times_checked == 1


@pytest.mark.parametrize(("passed_s", "times"), [(29.9, 1), (30.0, 2)])
@pytest.mark.virtual_time()
async def test_a_finding_is_kept_for_its_time(clock: LoopClock, passed_s: float, times: int) -> None:
    thing = Thing()
    checked = dependencies(clock, Dependency("redis", thing.check))
    await checked.finding("redis")
    await pass_time(timedelta(seconds=passed_s))
    await checked.finding("redis")
    assert thing.times_checked == times


@pytest.mark.virtual_time()
async def test_what_does_not_answer_in_time_is_unhealthy_and_holds_up_nothing_else(clock: LoopClock) -> None:
    checked = dependencies(
        clock,
        Dependency("redis", Thing(is_stuck=True).check),
        Dependency("rabbitmq", Thing().check),
        timeout=timedelta(milliseconds=50),
    )
    async with asyncio.timeout(5):
        findings = await checked.findings()
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
    checked = dependencies(
        clock,
        Dependency("redis", Thing(redis).check, is_needed=True),
        Dependency("google_speech", Thing(google).check),
    )
    assert checked.verdict(await checked.findings()) == verdict


@pytest.mark.virtual_time()
async def test_only_the_named_dependencies_are_checked(clock: LoopClock) -> None:
    settings = HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "redis"})
    them = [Dependency("redis", Thing().check), Dependency("rabbitmq", Thing().check)]
    assert select_dependencies(them, settings, clock).names == ("redis",)
    assert select_dependencies(them, HealthSettings.read({}), clock).names == ("redis", "rabbitmq")


def test_a_dependency_that_is_none_is_a_mistake() -> None:
    assert HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "true"}).health_check_dependencies == ()
    with pytest.raises(SettingsError, match="HEALTH_CHECK_DEPENDENCIES: got .*, takes names .*, of redis, rabbitmq"):
        HealthSettings.read({"HEALTH_CHECK_DEPENDENCIES": "redis,oracle"})


# What is checked


async def test_redis_is_told_with_its_pool(redis_server: Any) -> None:
    settings = RedisSettings.read({"REDIS_URL": redis_server.url, "REDIS_POOL_SIZE": "7"})
    async with open_redis(settings) as redis:
        found = await make_redis_dependency(redis, is_needed=True).check()
        most = redis.driver.connection_pool.max_connections
    assert (found, most >= 7) == (Finding("healthy", {"pool": {"active": 1, "idle": 0, "max": most}}), True)


async def test_a_redis_that_is_gone_is_unhealthy() -> None:
    async with open_redis(RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})) as redis:
        found = await make_redis_dependency(redis, is_needed=True).check()
    assert (found.status, found.details["error"]) == ("unhealthy", "Redis: ConnectionError")


async def test_the_broker_is_told_with_the_depth_of_each_queue() -> None:
    topology = load(CommonSettings, {}).broker.topology
    async with MemoryBroker(topology, SystemClock()) as broker:
        queues = [queue.name for queue in topology.stage_queues]
        check = make_broker_dependency(broker, queues, is_needed=True).check
        up = await check()
        broker.go_down()
        down = await check()
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
    (dependency,) = make_provider_dependencies(metrics)
    for _ in range(failures):
        with pytest.raises(ConnectionError):
            async with breaker.enter(Call(Deadline.after(timedelta(seconds=1)))):
                raise ConnectionError
    assert (dependency.name, (await dependency.check()).status, dependency.is_needed) == (
        "google_speech",
        status,
        False,
    )


# The whole gateway


def report(service: str, instance: str, status: Status, at: datetime = AT, **told: Status) -> HealthReport:
    return HealthReport(service, instance, status, told, at)


@asynccontextmanager
async def reports_with(redis: RedisClient, *written: HealthReport) -> AsyncIterator[HealthReports]:
    reports = HealthReports(redis, timedelta(seconds=90))
    for one in written:
        await reports.write(one)
    yield reports


@pytest.mark.virtual_time()
async def test_the_reports_of_all_processes_are_combined(redis: RedisClient, clock: LoopClock) -> None:
    written = [
        report("ingress", "a", "healthy", rabbitmq="healthy", redis="healthy"),
        report("transcriber", "b", "degraded", rabbitmq="healthy", google_speech="unhealthy"),
        report("transcriber", "c", "healthy", rabbitmq="healthy", google_speech="healthy"),
    ]
    async with reports_with(redis, *written) as reports:
        found = await make_gateway_dependency(reports, clock, ["ingress", "transcriber", "formatter"]).check()
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
async def test_a_report_that_was_not_renewed_expires(redis: RedisClient, clock: LoopClock) -> None:
    async with reports_with(redis, report("ingress", "dead", "healthy"), report("ingress", "b", "healthy")) as reports:
        await pass_time(timedelta(seconds=91))
        await reports.write(report("ingress", "b", "degraded", clock.now()))
        assert [(one.instance, one.status) for one in await reports.read(clock.now())] == [("b", "degraded")]
        assert await redis.driver.hkeys("health:board") == [b"ingress:b"]
        assert 0 < await redis.driver.ttl("health:board") <= 90


@pytest.mark.virtual_time()
async def test_a_report_leaves_out_what_was_made_of_other_reports(redis: RedisClient, clock: LoopClock) -> None:
    async with reports_with(redis, report("ingress", "a", "unhealthy")) as reports:
        checked = dependencies(
            clock,
            Dependency("redis", Thing().check, is_needed=True),
            make_gateway_dependency(reports, clock, ["ingress", "transcriber"]),
        )
        writing = asyncio.create_task(HealthReporter(reports, ["poller"], "b", checked, clock, TTL).run())

        async def has_written() -> bool:
            return report("poller", "b", "healthy", redis="healthy") in await reports.read(AT)

        await eventually(has_written)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.virtual_time()
async def test_a_deployment_is_healthy_as_soon_as_its_first_report_is_written(
    redis: RedisClient, clock: LoopClock
) -> None:
    async with reports_with(redis) as reports:
        checked = dependencies(
            clock,
            Dependency("redis", Thing().check, is_needed=True),
            make_gateway_dependency(reports, clock, ["poller"]),
        )
        writing = asyncio.create_task(HealthReporter(reports, ["poller"], "b", checked, clock, TTL).run())

        async def has_written() -> bool:
            return bool(await reports.read(clock.now()))

        await eventually(has_written)
        assert (await checked.finding("gateway")).status == "healthy"
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.virtual_time()
async def test_a_report_is_removed_when_its_process_ends(redis: RedisClient, clock: LoopClock) -> None:
    checked = dependencies(clock, Dependency("redis", Thing("degraded").check, is_needed=True))
    async with reports_with(redis) as reports:
        writer = HealthReporter(reports, ["formatter"], "a", checked, clock, TTL)
        writing = asyncio.create_task(writer.run())

        async def is_up() -> bool:
            return await reports.read(AT) == [report("formatter", "a", "degraded", redis="degraded")]

        await eventually(is_up)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await reports.read(AT) == []


# Over HTTP


@asynccontextmanager
async def nothing_to_do(settings: CommonSettings, resources: BrokerResources) -> AsyncIterator[Service]:
    yield Service()


TESTER = ServiceDefinition("tester", CommonSettings, BrokerResources, nothing_to_do, needs=frozenset({"rabbitmq"}))


@asynccontextmanager
async def open_service(
    *, reports_all_services: bool = False, **environ: str
) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryBroker, RedisClient]]:
    """A client of a service that needs the broker."""
    definition = replace(TESTER, reports_all_services=reports_all_services)
    topology = load(CommonSettings, environ).broker.topology
    async with (
        MemoryBroker(topology, SystemClock()) as broker,
        open_in_memory([definition], environ, broker=broker) as tested,
    ):
        yield tested.client, broker, tested.process.resources.redis


async def test_health_tells_each_dependency_and_the_process() -> None:
    async with open_service() as (client, _, _):
        body = (await client.get("/health")).json()
    assert body["services"] == {"redis": {"status": "healthy"}, "rabbitmq": {"status": "healthy"}}
    assert (body["status"], body["service"], bool(body["version"])) == ("healthy", "tester", True)
    assert body["system"]["memory_usage_mb"] > 1
    assert body["system"]["asyncio_tasks"] >= 1
    assert body["system"].keys() == {"memory_usage_mb", "cpu_usage_percent", "asyncio_tasks", "uptime_seconds"}


async def test_the_detail_tells_pool_depths_and_when_it_was_checked() -> None:
    async with open_service() as (client, _, _):
        services = (await client.get("/health?detail=true")).json()["services"]
    assert services["redis"].keys() == {"status", "pool", "checked_at", "response_time_ms"}
    assert services["rabbitmq"]["queue_depths"]["eai.transcriber"] == 0


async def test_a_needed_dependency_that_is_down_makes_it_unhealthy_once_it_is_checked_again() -> None:
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


async def test_a_process_that_reports_all_services_shows_their_dependencies_and_is_only_degraded_by_them() -> None:
    async with open_service(reports_all_services=True) as (client, _, redis):
        reports = HealthReports(redis, TTL)
        now = datetime.now(UTC)
        for service in ("ingress", "transcriber", "agent-router", "formatter"):
            await reports.write(report(service, "a", "healthy", now, google_agent_engine="unhealthy"))
        answer = await client.get("/health")
        one = await client.get("/health/google_agent_engine")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    assert body["services"]["google_agent_engine"] == {"status": "unhealthy"}
    assert body["gateway"]["formatter"] == {"status": "healthy", "instances": 1}
    assert one.status_code == 503


# Metrics


async def test_the_gauges_of_servers_and_calls_are_there(redis: RedisClient) -> None:
    metrics = Metrics()
    bind_pool_gauges(redis, metrics)
    await redis.ping()
    topology = load(CommonSettings, {}).broker.topology
    stop = asyncio.Event()
    async with MemoryBroker(topology, SystemClock()) as broker:
        watching = asyncio.create_task(record_broker_gauges(broker, ["eai.transcriber"], metrics, stop))

        async def is_watched() -> bool:
            return b"rabbitmq_queue_depth_total 0.0" in metrics.exposition()

        await eventually(is_watched)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    with pytest.raises(ConnectionError), metrics.external_call("openai"):
        raise ConnectionError
    told = metrics.exposition().decode()
    assert "redis_connections_active 1.0" in told
    assert "redis_connection_pool_active 1.0" in told
    assert "redis_connection_pool_max " in told
    assert 'external_api_errors_total{service="openai"} 1.0' in told
