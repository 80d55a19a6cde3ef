"""What a user and a model without a memory of its own said to each other."""

from __future__ import annotations

from datetime import timedelta

from pydantic import TypeAdapter

from eai_common.messages import HistoryMessage
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors

__all__ = ["ConversationStore"]

_KEPT_TURNS = 100
_MESSAGES = TypeAdapter(tuple[HistoryMessage, ...])

# KEYS: conversation. ARGV: message id, turn, turns kept, ttl in seconds. A turn is its message id, a newline and JSON.
_APPEND = """
for _, turn in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(turn, 1, #ARGV[1]) == ARGV[1] then return 0 end
end
redis.call('RPUSH', KEYS[1], ARGV[1] .. '\\n' .. ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


class ConversationStore:
    """The last turns of each thread. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl = ttl
        self._append = redis.driver.register_script(_APPEND)

    async def read(self, thread_id: str, *, without: str) -> tuple[HistoryMessage, ...]:
        """The thread's messages, oldest first, but for those of the message id `without`."""
        with map_redis_errors():
            turns = await self._redis.lrange(_key(thread_id), 0, -1)
        split = (turn.partition(b"\n") for turn in turns if isinstance(turn, bytes))
        return tuple(
            message
            for message_id, _, body in split
            if message_id != without.encode()
            for message in _MESSAGES.validate_json(body)
        )

    async def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> None:
        """Add one turn's messages; a second time for the same `message_id` changes nothing."""
        ttl_s = max(1, round(self._ttl.total_seconds()))
        with map_redis_errors():
            await self._append(
                keys=[_key(thread_id)], args=[message_id, _MESSAGES.dump_json(messages), _KEPT_TURNS, ttl_s]
            )


def _key(thread_id: str) -> str:
    return f"conversation:{{{thread_id}}}"
