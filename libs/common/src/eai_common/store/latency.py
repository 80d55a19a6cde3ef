"""How long recent messages took and when they were done, so that a client can be told how long its own may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from eai_common.messages import MessageType
from eai_common.store.client import RedisClient
from eai_common.store.commands import Reply, Request, Script, command

__all__ = ["Completion", "LatencyStore"]

_KEPT = 100
_TTL = timedelta(hours=1)
_EPOCH = datetime.fromtimestamp(0, UTC)

# KEYS: latencies. ARGV: milliseconds, how many are kept, ttl in seconds. An entry: what it took, "@", when.
_NOTE = Script("""
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('LPUSH', KEYS[1], ARGV[1] .. '@' .. string.format('%.0f', at))
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return redis.call('EXPIRE', KEYS[1], ARGV[3])
""")


@dataclass(frozen=True, slots=True)
class Completion:
    """One completed message."""

    took: timedelta
    at: datetime | None  # None: written by a release that did not say


class LatencyStore:
    """The last hundred completed messages, for each type."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    def note(self, message_type: MessageType, took: timedelta) -> Request[None]:
        """Add one, done now."""
        took_ms = round(took.total_seconds() * 1000)
        args = (took_ms, _KEPT, round(_TTL.total_seconds()))
        return self._redis.request(_NOTE.call([_key(message_type)], args))

    def completions(self, message_type: MessageType) -> Request[list[Completion]]:
        """Newest first; none when nothing was completed for an hour."""
        return self._redis.request(command("LRANGE", _key(message_type), 0, _KEPT - 1), decode=_completions)

    async def recent(self, message_type: MessageType) -> list[timedelta]:
        """How long they took, newest first. Raises StoreUnavailable."""
        return [done.took for done in await self.completions(message_type)]


def _completions(replies: Sequence[Reply]) -> list[Completion]:
    (found,) = cast(Sequence[list[bytes]], replies)
    return [_completion(value) for value in found]


def _completion(value: bytes) -> Completion:
    took_ms, _, at_ms = value.partition(b"@")
    at = _EPOCH + timedelta(milliseconds=int(at_ms)) if at_ms else None
    return Completion(timedelta(milliseconds=int(took_ms)), at)


def _key(message_type: MessageType) -> str:
    return f"latency:{message_type}"
