"""A bound on the calls that one process has under way: what hangs must not take every place of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from eai_common.guards.booking import Booking
from eai_common.guards.guard import Call, GuardWait

__all__ = ["Bulkhead"]

_SMOOTHING = 0.2
_MAX_QUEUE_TIME = timedelta(seconds=2)
_SHORTEST_CALL = timedelta(milliseconds=10)
_HORIZON = timedelta(minutes=1)


class Bulkhead:
    """At most `limit` calls at a time, and a queue of `max_queued` before them.

    The queue keeps the places in use between the end of a call and the return of the next from the delay ladder, whose
    shortest wait is a second. A call that finds the queue full, or waits in it for two seconds, is deferred.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        max_queued: int = 0,
        refusal: type[GuardWait],
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._limit = limit
        self._free = asyncio.Semaphore(limit)
        self._queue_left = max_queued
        self._refusal = refusal
        self._usual_s = 1.0  # how long a call takes
        self._booking = Booking(random, horizon=_HORIZON)

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises the refusal if there is no place."""
        await self._acquire()
        began_s = asyncio.get_running_loop().time()
        try:
            yield call
        finally:
            self._free.release()
            self._usual_s += _SMOOTHING * (asyncio.get_running_loop().time() - began_s - self._usual_s)

    async def _acquire(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        if self._queue_left <= 0:
            raise self._refused()
        self._queue_left -= 1
        try:
            async with asyncio.timeout(_MAX_QUEUE_TIME.total_seconds()):
                await self._free.acquire()
        except TimeoutError:
            raise self._refused() from None
        finally:
            self._queue_left += 1

    def _refused(self) -> GuardWait:
        step = max(timedelta(seconds=self._usual_s), _SHORTEST_CALL) / self._limit
        delay = self._booking.wait(first=step, step=step)
        return self._refusal(f"{self._name} has {self._limit} calls of this process under way", delay=delay)
