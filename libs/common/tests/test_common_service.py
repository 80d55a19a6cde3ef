"""How a service starts, refuses to start, and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from starlette.routing import Route

from eai_common.broker import TopologyMismatch
from eai_common.broker.memory import MemoryBroker
from eai_common.clock import SystemClock
from eai_common.errors import Permanent
from eai_common.health import Health, readiness_checks
from eai_common.http import bound_socket, json_response
from eai_common.ids import Ids
from eai_common.service import (
    CommonSettings,
    Parts,
    Running,
    Service,
    ServiceDefinition,
    main,
    reported,
    run_services,
)
from eai_common.settings import SettingsError, TelemetrySettings, load
from eai_common.stage import Stage
from eai_common.store import open_memory_redis
from eai_common.telemetry import Metrics, open_tracing, reset_logging
from eai_common.testing import RANDOM, eventually

BOTH = {"RABBITMQ_URL": "amqp://guest:hunter2@127.0.0.1:1/", "REDIS_URL": "redis://127.0.0.1:1/0"}


@asynccontextmanager
async def nothing_to_do(settings: CommonSettings, parts: Parts) -> AsyncIterator[Service]:
    yield Service()


DEFINITION = ServiceDefinition("tester", CommonSettings, nothing_to_do)
POLLING = replace(DEFINITION, uses=frozenset({"redis"}), needs=frozenset({"redis"}), serves_clients=True)


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
    definition: ServiceDefinition[CommonSettings],
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
    assert reported(raising(error)) == code


def test_a_clean_end_is_0() -> None:
    assert reported(lambda: None) == 0


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        reported(raising(ExceptionGroup("", [KeyError("bug"), OSError("x")])))
    assert raised.group_contains(KeyError)


# Running


@dataclass
class Process:
    """What `run_services` is given."""

    parts: Parts
    broker: MemoryBroker
    stop: asyncio.Event
    health: Health

    async def run(self, *stages: Stage, on_started: Callable[[tuple[str, int]], None] = lambda _: None) -> None:
        settings = load(CommonSettings, {"SHUTDOWN_GRACE": "1s"})

        async def app(scope: object, receive: object, send: object) -> None:
            raise AssertionError("nobody asks")

        service = Service(stages=stages, routes=[Route("/", lambda _: json_response({}))])
        running = Running(service, settings, self.parts)
        listener = bound_socket("127.0.0.1", 0)
        try:
            await run_services(
                [running], app, listener, self.stop, self.health, on_started=lambda: on_started(listener.getsockname())
            )
        finally:
            listener.close()


@pytest.fixture()
async def process() -> AsyncIterator[Process]:
    clock = SystemClock()
    settings = load(CommonSettings, {})
    async with open_memory_redis() as redis, MemoryBroker(settings.broker.topology, clock) as broker:
        tracing = open_tracing(TelemetrySettings.read({}), service="tester")
        parts = Parts(redis, clock, RANDOM, Ids(clock, RANDOM), Metrics(), tracing, opened_broker=broker)
        yield Process(parts, broker, asyncio.Event(), Health("tester"))


async def test_a_service_is_started_until_it_is_told_to_stop(process: Process) -> None:
    running = asyncio.create_task(process.run(Stage("formatter", ())))

    async def is_started() -> bool:
        return process.health.is_started

    await eventually(is_started)
    process.stop.set()
    await asyncio.wait_for(running, 10)
    assert process.health.is_stopping


async def test_who_is_told_that_a_service_started_can_connect_at_once(process: Process) -> None:
    def connect(address: tuple[str, int]) -> None:
        with socket.create_connection(address, timeout=5):
            process.stop.set()

    await asyncio.wait_for(process.run(on_started=connect), 10)


async def test_a_stage_that_dies_takes_the_whole_process_down(process: Process) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(process.run(Stage("formatter", ()), Stage("nobody", ())), 10)
    assert raised.group_contains(KeyError, match="nobody")


async def test_a_process_needs_no_server_that_its_service_does_not_need(process: Process) -> None:
    assert set(readiness_checks(frozenset({"rabbitmq"}), process.parts)) == {"rabbitmq"}


async def test_readiness_follows_the_broker_and_redis(process: Process) -> None:
    checks = readiness_checks(frozenset({"rabbitmq", "redis"}), process.parts)
    before = {name: await check() for name, check in checks.items()}
    process.broker.go_down()
    after = {name: await check() for name, check in checks.items()}
    assert (before, after) == ({"redis": True, "rabbitmq": True}, {"redis": True, "rabbitmq": False})


async def test_a_broker_that_a_service_did_not_ask_for_is_not_there(process: Process) -> None:
    with pytest.raises(AssertionError, match="must name it"):
        _ = replace(process.parts, opened_broker=None).broker
