"""When deferred calls come back: one after the other, as places become free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

__all__ = ["Booking"]


class Booking:
    """Times at which places are likely to be free, each given to one call.

    The bookings are this process's own: with n replicas each time is given n times, and a call that finds the place
    taken books again. Beyond `horizon` nothing is booked, so that what was booked too far ahead (a burst that went
    elsewhere) is forgotten by then. Such a call asks again within the horizon's second half, each at another time.
    """

    def __init__(self, random: Callable[[], float], *, horizon: timedelta) -> None:
        self._random = random
        self._horizon = horizon
        self._booked_until_s = 0.0

    def wait(self, *, first: timedelta, step: timedelta) -> timedelta:
        """Return how long to wait, when a place becomes free `first` from now and others follow every `step`."""
        now_s = asyncio.get_running_loop().time()
        booked_s = max(self._booked_until_s + step.total_seconds(), now_s + first.total_seconds())
        if booked_s - now_s > max(self._horizon, first).total_seconds():
            return self._horizon * (1 + self._random()) / 2
        self._booked_until_s = booked_s
        return timedelta(seconds=booked_s - now_s)
