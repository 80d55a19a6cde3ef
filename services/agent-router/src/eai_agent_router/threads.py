"""What is remembered of a user between messages: the thread, and the agent that an outside service made for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from eai_common.messages import rfc3339
from eai_common.store import RedisClient, Reply, Request, Script, as_text, command, milliseconds, user_key

__all__ = ["AgentIdCache", "ThreadStore"]

# KEYS: thread. ARGV: user's number, message id, now, ttl in ms. `counted` holds the ids of the last 20 messages.
_TOUCH = Script("""
local counted = redis.call('HGET', KEYS[1], 'counted') or ''
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[3])
redis.call('HSET', KEYS[1], 'thread_id', ARGV[1], 'user_id', ARGV[1], 'last_used', ARGV[3])
if not string.find(counted, ARGV[2], 1, true) then
  redis.call('HINCRBY', KEYS[1], 'message_count', 1)
  redis.call('HSET', KEYS[1], 'counted', string.sub(counted .. ' ' .. ARGV[2], -740))
end
return redis.call('PEXPIRE', KEYS[1], ARGV[4])
""")


class ThreadStore:
    """Bookkeeping of conversations; the conversation itself is the agent's."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl)

    def touch(self, user_number: str, message_id: str, *, at: datetime) -> Request[None]:
        """Count a message of the user's thread, once however often it is said; the thread begins with the first."""
        args = (user_number, message_id, rfc3339(at), self._ttl_ms)
        return self._redis.request(_TOUCH.call([user_key("thread", user_number)], args))


class AgentIdCache:
    """Which agent an outside service made for which user."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl)

    def get(self, user_number: str) -> Request[str | None]:
        """The agent's id, None when none is known."""
        return self._redis.request(command("GET", user_key("agent:id", user_number)), decode=_agent_id)

    def put(self, user_number: str, agent_id: str) -> Request[None]:
        """Remember the agent."""
        return self._redis.request(command("SET", user_key("agent:id", user_number), agent_id, "PX", self._ttl_ms))


def _agent_id(replies: Sequence[Reply]) -> str | None:
    return None if replies[0] is None else as_text(replies[0])
