"""A Redis client whose callers share round trips: what is for one delivery is sent with what is for others.

A stage asks Redis about ten times for each delivery, a command or two at a time. Alone, each costs a system call and a
wake-up each way. Together (`batch.py`), the more deliveries are in work, the less each pays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from redis.asyncio.client import Pipeline

from eai_common.store.batch import Command, CommandBatcher, open_batcher
from eai_common.store.client import Redis

__all__ = ["SharedRedis", "open_shared_redis"]


class SharedRedis(Redis):
    """As the client that it stands on, whose connections it uses; transactions and subscriptions go alone.

    A command raises StoreUnavailable when Redis is out of reach, the others of its round trip too.
    """

    def __init__(self, alone: Redis, batcher: CommandBatcher) -> None:
        super().__init__(connection_pool=alone.connection_pool)
        self._batcher = batcher

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self._batcher.run(Command(args, options))
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _SharedPipeline(self._batcher, self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _SharedPipeline(Pipeline):
    """Commands that go one after the other, others' perhaps before and after them."""

    def __init__(
        self,
        batcher: CommandBatcher,
        pool: Any,
        callbacks: MutableMapping[Any, Any],
        transaction: bool,
        shard_hint: str | None,
    ) -> None:
        super().__init__(pool, callbacks, transaction, shard_hint)
        self._batcher = batcher

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        if self.is_transaction or self.explicit_transaction or self.watching or self.scripts or not self.command_stack:
            return await super().execute(raise_on_error)
        commands = [Command(args, options) for args, options in self.command_stack]
        try:
            return await (self._batcher.run(*commands) if raise_on_error else self._batcher.replies(*commands))
        finally:
            await self.reset()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def open_shared_redis(alone: Redis, patience: timedelta) -> AsyncIterator[Redis]:
    """The client, as long as the context is open. `patience` is the longest that one round trip may take."""
    async with open_batcher(alone, patience) as batcher:
        yield SharedRedis(alone, batcher)
