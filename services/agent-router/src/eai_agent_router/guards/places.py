"""So many turns of one process may be under way with a provider: one that hangs must not take everybody's places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from eai_agent_router.agent import History, Turn
from eai_agent_router.guards.booking import Booking
from eai_agent_router.guards.waits import ProviderBusy

__all__ = ["Places"]

_SMOOTHING = 0.2
_LONGEST_WAIT_IN_LINE = timedelta(seconds=2)
_SHORTEST_TURN = timedelta(milliseconds=10)
_HORIZON = timedelta(minutes=1)


class Places:
    """The places at one provider, and a short line before them.

    The line keeps the places taken between a turn's end and the return of the next from the delay ladder, whose
    shortest wait is a second. Whoever finds the line full, or stands in it for long, is deferred.
    """

    def __init__(self, provider: str, *, places: int, line: int, random: Callable[[], float]) -> None:
        self._provider = provider
        self._free = asyncio.Semaphore(places)
        self._places = places
        self._line_left = line
        self._usual_s = 1.0  # how long a turn takes
        self._booking = Booking(random, horizon=_HORIZON)

    @asynccontextmanager
    async def passing(self, asked: Turn | History) -> AsyncIterator[None]:
        """A turn at the provider. Raises ProviderBusy."""
        await self._enter()
        began_s = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._free.release()
            self._usual_s += _SMOOTHING * (asyncio.get_running_loop().time() - began_s - self._usual_s)

    async def _enter(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        if self._line_left <= 0:
            raise self._busy()
        self._line_left -= 1
        try:
            async with asyncio.timeout(_LONGEST_WAIT_IN_LINE.total_seconds()):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._line_left += 1

    def _busy(self) -> ProviderBusy:
        step = max(timedelta(seconds=self._usual_s), _SHORTEST_TURN) / self._places
        delay = self._booking.wait(first=timedelta(), step=step)
        return ProviderBusy(f"{self._provider} has {self._places} turns of this process under way", delay=delay)
