"""How a process is built, starts, refuses to start, and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common import registry
from eai_common.broker import Broker, Consumer, TopologyMismatch
from eai_common.broker.memory import MemoryBroker
from eai_common.clock import SystemClock
from eai_common.errors import Permanent
from eai_common.health import Need, make_readiness_checks
from eai_common.http import bind_socket, json_response
from eai_common.messages import MessageText
from eai_common.process import (
    BrokerResources,
    CommonSettings,
    ConfiguredService,
    MissingResource,
    Process,
    Resources,
    Service,
    ServiceDefinition,
    load_services,
    main,
    open_process,
    open_resources,
    run_process,
    run_reporting_errors,
)
from eai_common.process.in_memory import in_memory
from eai_common.process.testing import open_in_memory
from eai_common.registry import StageEntry
from eai_common.settings import SettingsError, load
from eai_common.stage import Stage, StageContext, handler_for
from eai_common.store import open_memory_redis
from eai_common.telemetry import reset_logging
from eai_common.testing import eventually

BOTH = {"RABBITMQ_URL": "amqp://guest:hunter2@127.0.0.1:1/", "REDIS_URL": "redis://127.0.0.1:1/0"}


@asynccontextmanager
async def nothing_to_do(settings: CommonSettings, resources: Resources) -> AsyncIterator[Service]:
    yield Service()


DEFINITION = ServiceDefinition("tester", CommonSettings, BrokerResources, nothing_to_do)
POLLING = ServiceDefinition(
    "tester", CommonSettings, Resources, nothing_to_do, needs=frozenset({"redis"}), serves_clients=True
)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    reset_logging()


@pytest.fixture()
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets the process's environment to these variables and no others of ours."""

    def set_to(variables: dict[str, str]) -> None:
        for name in ("RABBITMQ_URL", "REDIS_URL", "API_TOKEN", "JWT_SECRET", "ENVIRONMENT", "PORT", "HOST"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOST": "127.0.0.1", "PORT": "0", **variables}.items():
            monkeypatch.setenv(name, value)

    return set_to


# Refusing to start


@pytest.mark.parametrize(
    ("definition", "variables", "told"),
    [
        (
            DEFINITION,
            {},
            [
                "RABBITMQ_URL: is required, takes an address such as amqp://user:password@host:5672/",
                "REDIS_URL: is required, takes an address such as redis://host:6379/0",
            ],
        ),
        (POLLING, {}, ["REDIS_URL: is required, takes an address such as redis://host:6379/0"]),
        (
            POLLING,
            {**BOTH, "ENVIRONMENT": "production"},
            ["API_TOKEN: is required in production without JWTs, takes tokens separated by commas"],
        ),
        (
            POLLING,
            {**BOTH, "ENVIRONMENT": "production", "API_TOKEN": " , "},
            ["API_TOKEN: is required in production without JWTs, takes tokens separated by commas"],
        ),
        (
            DEFINITION,
            {**BOTH, "PORT": "70000", "WORKER_TIMEOUT": "soon"},
            [
                'WORKER_TIMEOUT: got "soon", takes a duration such as 300, "30s", "5m" or "24h"',
                'PORT: got "70000", takes a whole number from 0 to 65535',
            ],
        ),
    ],
    ids=["no servers", "no redis", "no tokens in production", "empty tokens in production", "wrong values"],
)
def test_a_service_with_wrong_settings_says_which_and_ends_with_2(
    definition: ServiceDefinition[Any, Any],
    variables: dict[str, str],
    told: list[str],
    environment: Callable[[dict[str, str]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment(variables)
    code = main(definition)
    assert (code, capsys.readouterr().err.splitlines()) == (2, ["tester: wrong settings", *told])


def test_a_service_whose_port_is_taken_says_so_and_ends_with_1(
    environment: Callable[[dict[str, str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment({**BOTH, "PORT": str(taken.getsockname()[1])})
        assert main(POLLING) == 1
    assert "Address already in use" in capsys.readouterr().err


def test_a_service_whose_broker_is_not_there_says_so_without_its_password_and_ends_with_1(
    environment: Callable[[dict[str, str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    environment({**BOTH, "RABBITMQ_CONNECT_TIMEOUT": "50ms"})
    code = main(DEFINITION)
    err = capsys.readouterr().err
    assert (code, "service_failed" in err, "BrokerUnavailable" in err, "hunter2" in err) == (1, True, True, False)


# Exit codes


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


class Hopeless(Permanent):
    error_code = "HOPELESS"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Hopeless("x"), 1),
        (OSError("x"), 1),
        (TopologyMismatch("x"), 1),
        (SettingsError(["X: is wrong"]), 2),
        (ExceptionGroup("", [OSError("x"), ExceptionGroup("", [Hopeless("y")])]), 1),
        (ExceptionGroup("", [SettingsError(["X: is wrong"]), OSError("x")]), 2),
    ],
    ids=repr,
)
def test_what_an_operator_can_mend_is_a_line_for_each_cause_and_a_code(error: Exception, code: int) -> None:
    assert run_reporting_errors(raising(error)) == code


def test_a_clean_end_is_0() -> None:
    assert run_reporting_errors(lambda: None) == 0


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        run_reporting_errors(raising(ExceptionGroup("", [KeyError("bug"), OSError("x")])))
    assert raised.group_contains(KeyError)


# Building


async def test_a_service_without_a_resource_that_it_needs_fails_when_the_process_is_built() -> None:
    configured = [ConfiguredService(one, load(CommonSettings, {})) for one in (POLLING, DEFINITION)]
    async with open_resources("x", configured[0].settings, in_memory(), uses_broker=False) as resources:
        with pytest.raises(MissingResource, match=r"^tester needs a resource that this process does not have: broker$"):
            async with open_process("x", configured, resources):
                pass


async def test_a_stage_without_a_queue_fails_when_the_process_is_built() -> None:
    with pytest.raises(MissingResource, match=r"^tester has a stage without a queue: nobody$"):
        async with open_in_memory([serving("/", Stage("nobody", ()))], {}):
            pass


async def ignore(event: MessageText, context: StageContext) -> None:
    """A handler that nothing follows from."""


async def test_a_handler_whose_event_never_enters_the_queue_fails_when_the_process_is_built() -> None:
    stage = Stage("callbacks", (handler_for(MessageText, ignore),))
    with pytest.raises(MissingResource, match=r"^the queue of callbacks never gets .* handles: message\.text$"):
        async with open_in_memory([serving("/", stage)], {}):
            pass


def test_the_services_of_the_registry_are_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STAGES", (StageEntry("other", f"{__name__}:DEFINITION"),))
    with pytest.raises(TypeError, match="the registry's line for other"):
        load_services()


async def test_resources_are_those_that_were_given() -> None:
    settings = load(CommonSettings, {})
    async with MemoryBroker(settings.broker.topology, SystemClock()) as broker, open_memory_redis() as redis:
        async with open_resources("x", settings, in_memory(broker=broker, redis=redis)) as resources:
            assert isinstance(resources, BrokerResources)
            assert (resources.broker, resources.redis) == (broker, redis)
        assert broker.is_ready  # whoever opened it closes it


async def test_a_process_serves_the_routes_of_all_its_services_and_one_set_of_probes() -> None:
    definitions = [serving("/one", name="one"), serving("/two", name="two")]
    async with open_in_memory(definitions, {}) as tested:
        codes = [(await tested.client.get(path)).status_code for path in ("/one", "/two", "/live", "/health")]
    assert codes == [200, 200, 200, 200]


async def test_a_process_reports_the_health_of_each_of_its_services() -> None:
    definitions = [serving("/one", name="ingress"), replace(DEFINITION, name="poller", reports_all_services=True)]
    environ = {"HEALTH_CHECK_CACHE_TTL": "50ms", "SHUTDOWN_GRACE": "1s"}
    async with open_in_memory(definitions, environ, is_running=True) as tested:

        async def is_reported() -> bool:
            gateway = (await tested.client.get("/health")).json()["gateway"]
            return bool(gateway["ingress"] == {"status": "healthy", "instances": 1})

        await eventually(is_reported)


# Running


def serving(path: str, *stages: Stage, name: str = "tester") -> ServiceDefinition[CommonSettings, BrokerResources]:
    """A service with one route and these stages."""

    async def answer(_: Request) -> Response:
        return json_response({})

    @asynccontextmanager
    async def build(settings: CommonSettings, resources: BrokerResources) -> AsyncIterator[Service]:
        yield Service(stages, [Route(path, answer)])

    return replace(DEFINITION, name=name, build=build)


@dataclass
class Running:
    """A process that is run by the test."""

    process: Process
    stop: asyncio.Event

    async def run(self, on_started: Callable[[tuple[str, int]], None] = lambda _: None) -> None:
        with bind_socket("127.0.0.1", 0) as listener:
            await run_process(self.process, listener, self.stop, on_started=lambda: on_started(listener.getsockname()))


@asynccontextmanager
async def ready_to_run(*stages: Stage, broker: Broker | None = None) -> AsyncIterator[Running]:
    async with open_in_memory([serving("/", *stages)], {"SHUTDOWN_GRACE": "1s"}, broker=broker) as tested:
        yield Running(tested.process, asyncio.Event())


async def test_a_process_is_started_until_it_is_told_to_stop() -> None:
    async with ready_to_run(Stage("formatter", ())) as running:
        task = asyncio.create_task(running.run())

        async def is_started() -> bool:
            return running.process.health.is_started

        await eventually(is_started)
        running.stop.set()
        await asyncio.wait_for(task, 10)
        assert running.process.health.is_stopping


@pytest.mark.blocks_the_loop()
async def test_who_is_told_that_a_process_started_can_connect_at_once() -> None:
    async with ready_to_run() as running:

        def connect(address: tuple[str, int]) -> None:
            with socket.create_connection(address, timeout=5):
                running.stop.set()

        await asyncio.wait_for(running.run(connect), 10)


class DyingBroker(MemoryBroker):
    """Nobody can consume from it."""

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[Consumer]:
        async with super().consume(queue, prefetch=prefetch) as consumer:
            if self.is_ready:
                raise RuntimeError(queue)
            yield consumer


async def test_a_stage_that_dies_takes_the_whole_process_down() -> None:
    topology = load(CommonSettings, {}).broker.topology
    async with DyingBroker(topology, SystemClock()) as broker, ready_to_run(
        Stage("formatter", ()), broker=broker
    ) as it:
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(it.run(), 10)
    assert raised.group_contains(RuntimeError, match="eai.formatter")


@pytest.mark.parametrize("needs", [{"rabbitmq"}, {"redis"}, {"rabbitmq", "redis"}])
async def test_readiness_follows_the_servers_that_a_process_needs_and_no_other(needs: set[Need]) -> None:
    settings = load(CommonSettings, {})
    async with open_memory_redis() as redis, MemoryBroker(settings.broker.topology, SystemClock()) as broker:
        checks = make_readiness_checks(frozenset(needs), redis, broker)
        before = {name: await check() for name, check in checks.items()}
        broker.go_down()
        after = {name: await check() for name, check in checks.items()}
    assert (before, after) == (dict.fromkeys(needs, True), {name: name == "redis" for name in needs})
