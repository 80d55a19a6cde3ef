"""A running poller for tests: wired as in production, on an in-process Redis unless it is given another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
from starlette.types import ASGIApp

from eai_common.clock import Clock
from eai_common.http import HttpParts, bound_socket, build_app, serve
from eai_common.ids import Ids
from eai_common.service import Parts
from eai_common.settings import load
from eai_common.store import RedisClient, TaskStore, Wakeups, open_memory_redis, open_wakeups
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock
from eai_poller.service import POLLER
from eai_poller.settings import Settings

__all__ = ["ACCEPTED", "PATH", "RESULT", "Poller", "open_poller"]

PATH = "/api/v1/message/response"
ACCEPTED = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
RESULT: dict[str, Any] = {"status": "completed", "content": "Olá! …", "retry_after": None, "data": {"messages": []}}


@dataclass
class Poller:
    """A running poller, and what it looks into."""

    client: httpx.AsyncClient
    redis: RedisClient
    tasks: TaskStore
    ids: Ids
    wakeups: Wakeups
    clock: Clock

    async def get(self, message_id: str | None, *, wait: object = None, **headers: str) -> httpx.Response:
        query = {"message_id": message_id, "wait": wait}
        given = {name: str(value) for name, value in query.items() if value is not None}
        return await self.client.get(PATH, params=given, headers=headers)

    async def finish(self, message_id: str, result: dict[str, Any]) -> None:
        outcome = "failed" if result["status"] == "failed" else "completed"
        await self.tasks.finish(
            message_id,
            outcome,  # type: ignore[arg-type]
            orjson.dumps(result),
            at=self.clock.now(),
            accepted_at=ACCEPTED,
        )


@asynccontextmanager
async def open_poller(
    other_redis: RedisClient | None = None, *, is_served: bool = False, **environ: str
) -> AsyncIterator[Poller]:
    """The poller as its wiring makes it; `is_served`: by the real server on a port, as streams need it."""
    settings = load(Settings, environ)
    clock = LoopClock(ACCEPTED - timedelta(seconds=asyncio.get_running_loop().time()))  # ACCEPTED is now
    random, metrics = RANDOM, Metrics()
    tracing = open_tracing(settings.telemetry, service="poller")
    async with AsyncExitStack() as stack:
        redis = other_redis if other_redis is not None else await stack.enter_async_context(open_memory_redis())
        ids = Ids(clock, random, settings.tasks.message_id_key.get_secret_value().encode())
        wakeups = await stack.enter_async_context(open_wakeups(redis))
        parts = Parts(redis, clock, random, ids, metrics, tracing, opened_wakeups=wakeups)
        service = await stack.enter_async_context(POLLER.build(settings, parts))
        app = build_app(service.routes, HttpParts(ids, metrics, tracing, settings.http, settings.telemetry))
        if is_served:
            url = await stack.enter_async_context(_served(app))
            client = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        else:
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        await stack.enter_async_context(client)
        yield Poller(client, redis, TaskStore(redis, settings.tasks), ids, wakeups, clock)


@asynccontextmanager
async def _served(app: ASGIApp) -> AsyncIterator[str]:
    """The app's address, on the real server."""
    stop = asyncio.Event()
    with contextlib.closing(bound_socket("127.0.0.1", 0)) as listener:
        listener.listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(app, listener, stop, grace_s=1), name="server")
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                stop.set()
