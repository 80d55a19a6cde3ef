"""Fixtures that tests of every package share: real servers, started once for each run."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar
from unittest.mock import patch

import pytest
from blockbuster import BlockBuster, BlockingError, blockbuster_ctx

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


class LoopBlocked(BlockingError):
    """What a call that blocks the event loop raises. It is kept besides, as the code under test may catch it."""

    seen: ClassVar[list[str]] = []

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.seen.append("".join(traceback.format_stack()[-15:-2]))


MAY_BLOCK = [
    # Reading /proc is a system call and no disk: memory, processor time and open files, for /health and /metrics.
    ("psutil/_common.py", {"cat", "open_binary", "open_text"}),
    ("prometheus_client/process_collector.py", {"collect"}),
    # At the start and the end of a process, when nobody waits for the loop.
    ("opentelemetry/sdk/resources/__init__.py", {"create"}),
    ("eai_common/telemetry/tracing.py", {"close"}),
    ("google/auth/_agent_identity_utils.py", {"get_agent_identity_certificate_path", "_is_certificate_file_ready"}),
    ("google/auth/transport/mtls.py", {"should_use_client_cert"}),
    ("eai_common/version.py", {"gateway_version"}),
    ("eai_common/settings/base.py", {"_read_files"}),
    ("eai_formatter/texts.py", {"packaged"}),
    ("concurrent/futures/thread.py", {"shutdown"}),
    # A line of the log goes where the operator sends it; it must be out before a crash.
    ("logging/__init__.py", {"emit", "flush"}),
    # What shows a traceback reads the source, after a bug of ours.
    ("rich/traceback.py", {"extract", "_render_stack"}),
    # The stand-in of Redis looks its version up, and reads its table of commands.
    ("fakeredis/model/_command_info.py", {"_load_command_info"}),
    ("fakeredis/_clients/_setup.py", {"default_driver_info"}),
    # Modules that are imported when they are first needed.
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    # What a condition that did not come is told by.
    ("inspect.py", {"getsource"}),
    # Tests that start and stop servers, or ask them by a client of their own, and wait for that.
    ("test_common_store_sentinel.py", {"is_on_the_second"}),
    ("conftest.py", {"_server"}),
    ("eai_cli/servers.py", {"start", "stop", "kill", "ctl", "wait_for"}),
]
"""Where the event loop may be blocked, by file and function."""


@pytest.fixture(autouse=True, scope="session")
def blockbuster() -> Iterator[BlockBuster]:
    with patch("blockbuster.blockbuster.BlockingError", LoopBlocked), blockbuster_ctx() as blockbuster:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            # Garbage is collected anywhere, and what gRPC does then takes a lock: to fail there would be by chance.
            blockbuster.functions.pop(name).deactivate()
        for function in blockbuster.functions.values():
            for file, functions in MAY_BLOCK:
                function.can_block_in(file, functions)
        yield blockbuster


@pytest.fixture(autouse=True)
def _loop_stays_free(request: pytest.FixtureRequest, blockbuster: BlockBuster) -> Iterator[None]:
    """Fail a test in which the event loop is blocked, unless it is marked `blocks_the_loop`."""
    if request.node.get_closest_marker("blocks_the_loop") is not None:
        blockbuster.deactivate()
        yield
        blockbuster.activate()
        return
    LoopBlocked.seen.clear()
    yield
    if LoopBlocked.seen:
        pytest.fail(f"the event loop was blocked:\n{LoopBlocked.seen[0]}", pytrace=False)


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
