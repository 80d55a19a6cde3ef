"""When each user last wrote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eai_common.messages import rfc3339
from eai_common.store.batch import Command
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors

__all__ = ["Activity", "ActivityStore"]


@dataclass(frozen=True, slots=True)
class Activity:
    """A user's last message, and how long it will still be known."""

    at: datetime
    kept_for: timedelta


class ActivityStore:
    """Written by ingress with each accepted message, read by the poller. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl_ms = max(1, round(ttl.total_seconds() * 1000))

    def note_command(self, user_number: str, *, at: datetime) -> Command:
        """Notes a message of the user's; for a shared round trip."""
        return Command(("SET", _key(user_number), rfc3339(at), "PX", self._ttl_ms))

    async def note(self, user_number: str, *, at: datetime) -> None:
        """Note a message of the user's."""
        with map_redis_errors():
            await self._redis.set(_key(user_number), rfc3339(at), px=self._ttl_ms)

    async def read(self, user_number: str) -> Activity | None:
        """The user's last message; None when none is known any more."""
        key = _key(user_number)
        with map_redis_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(key)
                pipeline.pttl(key)
                at, left_ms = await pipeline.execute()
        if at is None or left_ms < 0:  # gone, or gone between the two
            return None
        return Activity(datetime.fromisoformat(at.decode()), timedelta(milliseconds=left_ms))


def _key(user_number: str) -> str:
    return f"user:last_activity:{{{user_number}}}"
