"""What is remembered of a user between messages: the thread, and the agent that an outside service made for them."""

from __future__ import annotations

from datetime import datetime, timedelta

from eai_common.messages import rfc3339
from eai_common.store.client import Redis, store_errors

__all__ = ["AgentIdCache", "ThreadStore"]


class ThreadStore:
    """Bookkeeping of conversations; the conversation itself is the agent's. Raises StoreUnavailable."""

    def __init__(self, redis: Redis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    async def touch(self, user_number: str, *, at: datetime) -> None:
        """Count a message of the user's thread; the thread begins with the first."""
        key, now = f"thread:{{{user_number}}}", rfc3339(at)
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hsetnx(key, "created_at", now)
                pipeline.hset(key, mapping={"thread_id": user_number, "user_id": user_number, "last_used": now})
                pipeline.hincrby(key, "message_count", 1)
                pipeline.expire(key, self._ttl)
                await pipeline.execute()


class AgentIdCache:
    """Which agent an outside service made for which user. Raises StoreUnavailable."""

    def __init__(self, redis: Redis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    async def get(self, user_number: str) -> str | None:
        """The agent's id, None when none is known."""
        with store_errors():
            found = await self._redis.get(f"agent:id:{{{user_number}}}")
        return found.decode() if isinstance(found, bytes) else found

    async def put(self, user_number: str, agent_id: str) -> None:
        """Remember the agent."""
        with store_errors():
            await self._redis.set(f"agent:id:{{{user_number}}}", agent_id, ex=self._ttl)
