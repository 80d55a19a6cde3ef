"""How long recent messages took, so that a client can be told how long its own may take."""

from __future__ import annotations

from datetime import timedelta

from eai_common.messages import MessageType
from eai_common.store.client import Redis, store_errors

__all__ = ["LatencyStore"]

_KEPT = 100
_TTL = timedelta(hours=1)


class LatencyStore:
    """The last hundred completed messages' times, for each type. Raises StoreUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, message_type: MessageType, took: timedelta) -> None:
        """Add one."""
        key = f"latency:{message_type}"
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.lpush(key, round(took.total_seconds() * 1000))
                pipeline.ltrim(key, 0, _KEPT - 1)
                pipeline.expire(key, _TTL)
                await pipeline.execute()

    async def recent(self, message_type: MessageType) -> list[timedelta]:
        """The times, newest first; none when nothing was completed for an hour."""
        with store_errors():
            found = await self._redis.lrange(f"latency:{message_type}", 0, _KEPT - 1)
        return [timedelta(milliseconds=int(value)) for value in found]
