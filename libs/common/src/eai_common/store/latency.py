"""How long recent messages took and when they were done, so that a client can be told how long its own may take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from eai_common.messages import MessageType
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors
from eai_common.store.scripts import Script

__all__ = ["Completion", "LatencyStore"]

_KEPT = 100
_TTL = timedelta(hours=1)
_EPOCH = datetime.fromtimestamp(0, UTC)

# KEYS: latencies. ARGV: milliseconds, how many are kept, ttl in seconds. An entry: what it took, "@", when.
_NOTE = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('LPUSH', KEYS[1], ARGV[1] .. '@' .. string.format('%.0f', at))
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True, slots=True)
class Completion:
    """One completed message."""

    took: timedelta
    at: datetime | None  # None: written by a release that did not say


class LatencyStore:
    """The last hundred completed messages, for each type. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis.driver
        self._note = Script(_NOTE)

    async def note(self, message_type: MessageType, took: timedelta) -> None:
        """Add one, done now."""
        took_ms = round(took.total_seconds() * 1000)
        with map_redis_errors():
            call = self._note.call([_key(message_type)], [took_ms, _KEPT, round(_TTL.total_seconds())])
            await call.run(self._redis)

    async def recent(self, message_type: MessageType) -> list[timedelta]:
        """How long they took, newest first; none when nothing was completed for an hour."""
        return [done.took for done in await self.completions(message_type)]

    async def completions(self, message_type: MessageType) -> list[Completion]:
        """Newest first; none when nothing was completed for an hour."""
        with map_redis_errors():
            found = await self._redis.lrange(_key(message_type), 0, _KEPT - 1)
        return [_completion(cast(bytes, value)) for value in found]


def _completion(value: bytes) -> Completion:
    took_ms, _, at_ms = value.partition(b"@")
    at = _EPOCH + timedelta(milliseconds=int(at_ms)) if at_ms else None
    return Completion(timedelta(milliseconds=int(took_ms)), at)


def _key(message_type: MessageType) -> str:
    return f"latency:{message_type}"
