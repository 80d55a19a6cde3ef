"""What is remembered of a user between messages: the thread, and the agent that an outside service made for them."""

from __future__ import annotations

from datetime import datetime, timedelta

from eai_common.messages import rfc3339
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors
from eai_common.store.scripts import Script

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
    """Bookkeeping of conversations; the conversation itself is the agent's. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl_ms = max(1, ttl // timedelta(milliseconds=1))

    async def touch(self, user_number: str, message_id: str, *, at: datetime) -> None:
        """Count a message of the user's thread, once however often it is said; the thread begins with the first."""
        call = _TOUCH.call([f"thread:{{{user_number}}}"], [user_number, message_id, rfc3339(at), self._ttl_ms])
        with map_redis_errors():
            await call.run(self._redis)


class AgentIdCache:
    """Which agent an outside service made for which user. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl = ttl

    async def get(self, user_number: str) -> str | None:
        """The agent's id, None when none is known."""
        with map_redis_errors():
            found = await self._redis.get(f"agent:id:{{{user_number}}}")
        return found.decode() if isinstance(found, bytes) else found

    async def put(self, user_number: str, agent_id: str) -> None:
        """Remember the agent."""
        with map_redis_errors():
            await self._redis.set(f"agent:id:{{{user_number}}}", agent_id, ex=self._ttl)
