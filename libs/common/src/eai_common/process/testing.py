"""A process for tests: composed as in production, on in-memory clients, asked without a network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from eai_common.broker import Broker
from eai_common.clock import Clock
from eai_common.http import bind_socket
from eai_common.process.composition import Process, open_process
from eai_common.process.definition import ServiceDefinition
from eai_common.process.in_memory import in_memory
from eai_common.process.loading import load_all
from eai_common.process.resources import open_resources
from eai_common.process.run import run_process
from eai_common.store import RedisClient
from eai_common.testing import RANDOM

__all__ = ["TestedProcess", "open_in_memory"]


@dataclass(frozen=True, slots=True)
class TestedProcess:
    """A process, and a client of its HTTP side. `broker` is None in a process that uses none."""

    process: Process
    client: httpx.AsyncClient


@asynccontextmanager
async def open_in_memory(
    definitions: Sequence[ServiceDefinition[Any, Any]],
    environ: dict[str, str],
    *,
    broker: Broker | None = None,
    redis: RedisClient | None = None,
    clock: Clock | None = None,
    is_running: bool = False,
) -> AsyncIterator[TestedProcess]:
    """The services in one process. If it `is_running`, its stages consume, and the client asks the real server."""
    configured = load_all(definitions, environ)
    name, settings = configured[0].definition.name, configured[0].settings
    uses_broker = any(one.uses_broker for one in definitions)
    clients = in_memory(broker=broker, redis=redis)
    async with AsyncExitStack() as stack:
        opening = open_resources(name, settings, clients, uses_broker=uses_broker, clock=clock, random=RANDOM)
        process = await stack.enter_async_context(
            open_process(name, configured, await stack.enter_async_context(opening))
        )
        if is_running:
            url = await stack.enter_async_context(_running(process))
            client = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        else:
            client = httpx.AsyncClient(transport=httpx.ASGITransport(process.app), base_url="http://gateway")
        yield TestedProcess(process, await stack.enter_async_context(client))


@asynccontextmanager
async def _running(process: Process) -> AsyncIterator[str]:
    """The address of the process's server, as long as it runs."""
    stop, started = asyncio.Event(), asyncio.Event()
    with contextlib.closing(bind_socket("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_process(process, listener, stop, on_started=started.set), name="process")
            try:
                await started.wait()
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                stop.set()
