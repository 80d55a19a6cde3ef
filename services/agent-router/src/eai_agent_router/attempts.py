"""What marks the window that cannot be closed: an agent was asked, and nobody noted what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from eai_common.store import RedisClient, Reply, Request, command, message_key, milliseconds

__all__ = ["AttemptStore"]


class AttemptStore:
    """Questions on their way, by message and provider."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl)

    def begin(self, message_id: str, provider: str, owner: str) -> Request[bool]:
        """Record that the provider is about to be asked. Gives whether it may have been asked before.

        `owner` is unique to this attempt.
        """
        key = _key(message_id, provider)

        def was_asked(replies: Sequence[Reply]) -> bool:
            # Compared, not taken from the first reply: the client asks again by itself when an answer was lost.
            return replies[1] != owner.encode()

        return self._redis.request(
            command("SET", key, owner, "NX", "PX", self._ttl_ms), command("GET", key), decode=was_asked
        )

    def forget(self, message_id: str, provider: str) -> Request[None]:
        """Record that the question came to nothing: to ask again is no repetition."""
        return self._redis.request(command("DEL", _key(message_id, provider)))


def _key(message_id: str, provider: str) -> str:
    return f"{message_key('attempt', message_id)}:{provider}"
