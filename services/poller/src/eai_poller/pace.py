"""When a client should ask again: from how long the message has been here and how long recent ones took."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from eai_common.clock import Clock
from eai_common.messages import MessageType
from eai_common.store import LatencyStore, StoreUnavailable
from eai_poller.answer import Answer

__all__ = ["Pace", "ask_again_in"]

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(seconds=15)
_PATIENCE = timedelta(milliseconds=500)  # the answer is known; the client need not wait for the advice
_REFRESH = timedelta(seconds=5)


class Pace:
    """Recent times, looked up once in five seconds for each type; what was known last while Redis is out of reach."""

    def __init__(self, latency: LatencyStore, clock: Clock) -> None:
        self._latency = latency
        self._clock = clock
        self._known: dict[MessageType, tuple[float, Sequence[timedelta]]] = {}

    async def retry_after_s(self, answer: Answer) -> int:
        """Whole seconds for the `Retry-After` of a message in work."""
        now = self._clock.now()
        age = max(timedelta(0), now - answer.since) if answer.since is not None else timedelta(0)
        wait = ask_again_in(age, await self._recent(_type_of(answer)), next_try_in=_next_try_in(answer, now))
        return math.ceil(wait.total_seconds())

    async def _recent(self, message_type: MessageType) -> Sequence[timedelta]:
        looked_up_s, times = self._known.get(message_type, (-math.inf, ()))
        now_s = asyncio.get_running_loop().time()
        if now_s - looked_up_s < _REFRESH.total_seconds():
            return times
        self._known[message_type] = (now_s, times)  # before the look-up: polls that come meanwhile do not repeat it
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                times = await self._latency.recent(message_type)
        except (StoreUnavailable, TimeoutError):
            return times
        self._known[message_type] = (now_s, times)
        return times


def ask_again_in(age: timedelta, times: Sequence[timedelta], *, next_try_in: timedelta = timedelta(0)) -> timedelta:
    """Until a quarter of the messages that took longer than this one has by now were done, in 1 to 15 seconds.

    One that is older than all of them is asked for ever more rarely. While a failed try waits for the next, that is
    waited for as well.
    """
    longer = sorted(time for time in times if time > age)
    wait = longer[len(longer) // 4] - age if longer else age / 4
    return min(max(wait, next_try_in, _SHORTEST), _LONGEST)


def _type_of(answer: Answer) -> MessageType:
    fields = answer.status.fields if answer.status is not None else {}
    return (
        "audio" if answer.stage == "transcriber" or any(name.startswith("transcriber:") for name in fields) else "text"
    )


def _next_try_in(answer: Answer, now: datetime) -> timedelta:
    at = answer.status.fields.get("next_try_at") if answer.status is not None else None
    return datetime.fromisoformat(at) - now if at else timedelta(0)
