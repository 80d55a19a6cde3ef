"""When each user last wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from eai_common.messages import rfc3339
from eai_common.store.client import RedisClient
from eai_common.store.commands import Reply, Request, command, milliseconds
from eai_common.store.keys import user_key

__all__ = ["Activity", "ActivityStore"]

_KIND = "user:last_activity"


@dataclass(frozen=True, slots=True)
class Activity:
    """A user's last message, and how long it will still be known."""

    at: datetime
    kept_for: timedelta


class ActivityStore:
    """Written by ingress with each accepted message, read by the poller."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl)

    def note(self, user_number: str, *, at: datetime) -> Request[None]:
        """Record when the user wrote."""
        return self._redis.request(command("SET", user_key(_KIND, user_number), rfc3339(at), "PX", self._ttl_ms))

    def read(self, user_number: str) -> Request[Activity | None]:
        """The user's last message; None when none is known any more."""
        key = user_key(_KIND, user_number)
        return self._redis.request(command("GET", key), command("PTTL", key), decode=_activity)


def _activity(replies: Sequence[Reply]) -> Activity | None:
    match replies:
        case [bytes(at), int(left_ms)] if left_ms >= 0:  # else it is gone, or went between the two
            return Activity(datetime.fromisoformat(at.decode()), timedelta(milliseconds=left_ms))
        case _:
            return None
