"""A bound on how often all replicas together call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from eai_common.guards.booking import Booking
from eai_common.guards.guard import Call, GuardWait
from eai_common.guards.windows import Taken, Window

__all__ = ["Limiter", "RateLimit"]


class Limiter(Protocol):
    """The sliding window, as far as it is used here."""

    def take(self, subject: str, windows: Sequence[Window]) -> Awaitable[Taken]:
        """Take a place in every window, or in none. Raises StoreUnavailable."""


class RateLimit:
    """Innermost of the guards: a place that was taken counts, whether or not a call follows."""

    def __init__(
        self,
        name: str,
        window: Window,
        limiter: Limiter,
        *,
        refusal: type[GuardWait],
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._window = window
        self._limiter = limiter
        self._refusal = refusal
        self._booking = Booking(random, horizon=2 * window.period)

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises the refusal if no place is left, and StoreUnavailable."""
        taken = await self._limiter.take(f"provider:{self._name}", (self._window,))
        if not taken.is_allowed:
            delay = self._booking.wait(first=taken.retry_after, step=self._window.period / self._window.limit)
            raise self._refusal(f"{self._name} has had its {self._window.limit} calls a minute", delay=delay)
        yield call
