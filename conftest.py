"""Fixtures that tests of every package share: real servers, started once for each run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from eai_cli.servers import (
    RabbitServer,
    RedisServer,
    RedisWithSentinel,
    ServerMissing,
    run_private_rabbitmq,
    run_private_redis,
    run_private_redis_with_sentinel,
)
from eai_common.testing import RANDOM, VirtualTimeLoop

# Pants puts the packages on pytest's own path only; the processes that tests start find them by this, in any folder.
os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(place).resolve()) for place in sys.path if place.endswith("/src"))

ServerT = TypeVar("ServerT", RabbitServer, RedisServer, RedisWithSentinel)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--compose`, which `./eai test --compose` passes on once there is a Docker engine and the images are built."""
    parser.addoption("--compose", action="store_true", help="run the tests in containers, and only those")


def pytest_configure() -> None:
    """Say that there is no event loop. Else pytest-asyncio asks for one, gets a new one and never closes it."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Which tests run, and in what order: those in containers only when asked for, because they take minutes."""
    # The slowest first, which wait more than they compute: beside them the other processes do the rest.
    items.sort(key=lambda item: not item.path.is_relative_to(config.rootpath / "tests" / "e2e"))
    wanted = bool(config.getoption("--compose"))
    left_out = [item for item in items if (item.get_closest_marker("compose") is not None) is not wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of a test and of its fixtures: one whose time costs none where the test is marked `virtual_time`."""
    # Not by looptime's own plugin: to it, fixtures are in real time, so what they start waits for the wrong moment.
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _repeatable_chance(request: pytest.FixtureRequest) -> None:
    """Chance begins anew with each test, so that one that failed fails again."""
    RANDOM.seed(request.node.nodeid)


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server that somebody else runs; it can be used, not broken."""

    url: str


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitServer | RemoteServer]:
    """A RabbitMQ with a `url`: the one of EAI_TEST_RABBITMQ_URL, else a private one."""
    with _server("EAI_TEST_RABBITMQ_URL", run_private_rabbitmq) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer | RemoteServer]:
    """A Redis with a `url`: the one of EAI_TEST_REDIS_URL, else a private one."""
    with _server("EAI_TEST_REDIS_URL", run_private_redis) as server:
        yield server


@pytest.fixture()
def own_rabbitmq(rabbitmq_server: RabbitServer | RemoteServer) -> RabbitServer:
    """The private RabbitMQ, to be stopped, killed and started by a test that leaves it running."""
    if isinstance(rabbitmq_server, RemoteServer):
        pytest.skip("this test stops and starts the server, and EAI_TEST_RABBITMQ_URL is not ours to stop")
    return rabbitmq_server


@pytest.fixture()
def own_redis(redis_server: RedisServer | RemoteServer) -> RedisServer:
    """The private Redis, to be stopped, killed and started by a test that leaves it running."""
    if isinstance(redis_server, RemoteServer):
        pytest.skip("this test stops and starts the server, and EAI_TEST_REDIS_URL is not ours to stop")
    return redis_server


@pytest.fixture()
def redis_with_sentinel() -> Iterator[RedisWithSentinel]:
    """A private Redis with a replica and a sentinel, for one test, which may kill the primary."""
    with _server("", run_private_redis_with_sentinel) as servers:
        assert isinstance(servers, RedisWithSentinel)
        yield servers


@contextmanager
def _server(variable: str, private: Callable[[], AbstractContextManager[ServerT]]) -> Iterator[ServerT | RemoteServer]:
    with ExitStack() as opened:
        if url := os.environ.get(variable, ""):
            yield RemoteServer(url)
            return
        try:
            server = opened.enter_context(private())
        except ServerMissing as missing:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{missing}; or set {variable}")
        yield server
