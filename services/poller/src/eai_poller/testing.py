"""A running poller for tests: wired as in production, on an in-process Redis unless it is given another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson

from eai_common.clock import Clock
from eai_common.ids import Ids
from eai_common.process.testing import open_in_memory
from eai_common.store import RedisClient, TaskStore, Wakeups
from eai_common.testing import LoopClock
from eai_poller.service import POLLER

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
    """The poller as its process composes it; `is_served`: by the real server on a port, as streams need it."""
    environ = {"SHUTDOWN_GRACE": "1s", **environ}
    clock = LoopClock(ACCEPTED - timedelta(seconds=asyncio.get_running_loop().time()))  # ACCEPTED is now
    async with open_in_memory([POLLER], environ, redis=other_redis, clock=clock, is_running=is_served) as tested:
        resources = tested.process.resources
        tasks = TaskStore(resources.redis, tested.process.settings.tasks)
        yield Poller(tested.client, resources.redis, tasks, resources.ids, resources.wakeups, clock)
