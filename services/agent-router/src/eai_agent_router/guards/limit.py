"""So many calls a minute may all replicas together make to a provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

from eai_agent_router.agent import History, Turn
from eai_agent_router.guards.booking import Booking
from eai_agent_router.guards.waits import ProviderLimited
from eai_common.guards import Taken, Window

__all__ = ["Limit", "Limiter", "minute"]

_MARGIN = timedelta(seconds=1)


class Limiter(Protocol):
    """The sliding window, as far as it is used here."""

    async def take(self, subject: str, windows: Sequence[Window]) -> Taken:
        """Take a place in every window, or in none. Raises StoreUnavailable."""


class Limit:
    """Innermost of the guards: a place that was taken counts, so it is taken when nothing but the call is left."""

    def __init__(self, provider: str, window: Window, limiter: Limiter, booking: Booking) -> None:
        self._subject = f"provider:{provider}"
        self._window = window
        self._limiter = limiter
        self._booking = booking

    @asynccontextmanager
    async def passing(self, asked: Turn | History) -> AsyncIterator[None]:
        """One call. Raises ProviderLimited, StoreUnavailable."""
        taken = await self._limiter.take(self._subject, (self._window,))
        if not taken.is_allowed:
            step = self._window.period / self._window.limit
            delay = self._booking.wait(first=taken.retry_after, step=step)
            raise ProviderLimited(f"{self._window.limit} calls a minute were made ({self._subject})", delay=delay)
        yield


def minute(limit: int) -> Window:
    """`limit` calls a minute, as the provider counts them.

    A second longer than a minute: from here to the provider one call takes longer than another, and those of two
    minutes must not meet in one of its.
    """
    return Window(limit, timedelta(minutes=1) + _MARGIN)
