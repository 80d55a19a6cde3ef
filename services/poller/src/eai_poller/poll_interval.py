"""When a client should poll again, from the age of its message and the times that recent messages took."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from eai_common.clock import Clock
from eai_common.messages import MessageType
from eai_common.store import LatencyStore, StoreUnavailable
from eai_poller.answer import Answer

__all__ = ["PollInterval", "next_poll_in"]

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(seconds=15)
_MAX_WAIT = timedelta(milliseconds=500)  # the answer is ready and waits only for this
_REFRESH = timedelta(seconds=5)


class PollInterval:
    """Keeps the times of recent messages, read every five seconds for each type, and older ones while Redis is down."""

    def __init__(self, latency: LatencyStore, clock: Clock) -> None:
        self._latency = latency
        self._clock = clock
        self._known: dict[MessageType, tuple[float, Sequence[timedelta]]] = {}

    async def retry_after_s(self, answer: Answer) -> int:
        """The `Retry-After` of a message that is being processed."""
        now = self._clock.now()
        age = max(timedelta(0), now - answer.since) if answer.since is not None else timedelta(0)
        wait = next_poll_in(age, await self._recent(_type_of(answer)), next_attempt_in=_next_attempt_in(answer, now))
        return math.ceil(wait.total_seconds())

    async def _recent(self, message_type: MessageType) -> Sequence[timedelta]:
        read_at_s, times = self._known.get(message_type, (-math.inf, ()))
        now_s = asyncio.get_running_loop().time()
        if now_s - read_at_s < _REFRESH.total_seconds():
            return times
        self._known[message_type] = (now_s, times)  # before the read, so that other polls do not repeat it
        try:
            async with asyncio.timeout(_MAX_WAIT.total_seconds()):
                times = await self._latency.recent(message_type)
        except (StoreUnavailable, TimeoutError):
            return times
        self._known[message_type] = (now_s, times)
        return times


def next_poll_in(age: timedelta, times: Sequence[timedelta], *, next_attempt_in: timedelta = timedelta(0)) -> timedelta:
    """1 to 15 seconds: the time until a quarter of the recent messages that took longer than `age` had ended.

    A message that is older than all of them is polled less and less often. If an attempt failed, the next poll comes
    after the next attempt.
    """
    longer = sorted(time for time in times if time > age)
    wait = longer[len(longer) // 4] - age if longer else age / 4
    return min(max(wait, next_attempt_in, _SHORTEST), _LONGEST)


def _type_of(answer: Answer) -> MessageType:
    fields = answer.status.fields if answer.status is not None else {}
    return (
        "audio" if answer.stage == "transcriber" or any(name.startswith("transcriber:") for name in fields) else "text"
    )


def _next_attempt_in(answer: Answer, now: datetime) -> timedelta:
    at = answer.status.fields.get("next_try_at") if answer.status is not None else None
    return datetime.fromisoformat(at) - now if at else timedelta(0)
