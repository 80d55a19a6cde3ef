"""What marks the window that cannot be closed: an agent was asked, and nobody noted what came of it."""

from __future__ import annotations

from datetime import timedelta

from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors

__all__ = ["AttemptStore"]


class AttemptStore:
    """Questions on their way, by message and provider. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl_ms = max(1, ttl // timedelta(milliseconds=1))

    async def begin(self, message_id: str, provider: str, owner: str) -> bool:
        """Note that the provider is about to be asked; gives whether it may have been asked before.

        `owner` is unique to this attempt.
        """
        key = _key(message_id, provider)
        with map_redis_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, owner, nx=True, px=self._ttl_ms)
                pipeline.get(key)
                _, noted = await pipeline.execute()
        # Compared, not taken from the first reply: the client asks again by itself when an answer was lost on its way.
        return bool(noted != owner.encode())

    async def forget(self, message_id: str, provider: str) -> None:
        """The question came to nothing: to ask again is no repetition."""
        with map_redis_errors():
            await self._redis.delete(_key(message_id, provider))


def _key(message_id: str, provider: str) -> str:
    return f"attempt:{{{message_id}}}:{provider}"
