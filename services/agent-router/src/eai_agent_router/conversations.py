"""What a user and a model without a memory of its own said to each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

from pydantic import TypeAdapter

from eai_common.codec import PLAIN, Codec
from eai_common.messages import HistoryMessage
from eai_common.store import RedisClient, Reply, Request, Script, command, user_key

__all__ = ["ConversationStore"]

_KEPT_TURNS = 100
_MESSAGES = TypeAdapter(tuple[HistoryMessage, ...])

# KEYS: conversation. ARGV: message id, turn, turns kept, ttl in seconds. A turn: message id, newline, encoded JSON.
_APPEND = Script("""
for _, turn in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(turn, 1, #ARGV[1]) == ARGV[1] then return 0 end
end
redis.call('RPUSH', KEYS[1], ARGV[1] .. '\\n' .. ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
""")


class ConversationStore:
    """The last turns of each thread."""

    def __init__(self, redis: RedisClient, ttl: timedelta, codec: Codec = PLAIN) -> None:
        self._redis = redis
        self._codec = codec
        self._ttl_s = max(1, round(ttl.total_seconds()))

    def read(self, thread_id: str, *, without: str) -> Request[tuple[HistoryMessage, ...]]:
        """The thread's messages, oldest first, but for those of the message id `without`."""
        return self._redis.request(
            command("LRANGE", _key(thread_id), 0, -1),
            decode=lambda replies: tuple(self._messages(replies[0], without=without)),
        )

    def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> Request[None]:
        """Add one turn's messages; a second time for the same `message_id` changes nothing."""
        args = (message_id, self._codec.encode(_MESSAGES.dump_json(messages)), _KEPT_TURNS, self._ttl_s)
        return self._redis.request(_APPEND.call([_key(thread_id)], args))

    def _messages(self, turns: Reply, *, without: str) -> Iterator[HistoryMessage]:
        for turn in cast(list[bytes], turns):
            message_id, _, body = turn.partition(b"\n")
            if message_id != without.encode():
                yield from _MESSAGES.validate_json(self._codec.decode(body))


def _key(thread_id: str) -> str:
    return user_key("conversation", thread_id)
