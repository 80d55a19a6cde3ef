"""When those who are sent away should come back: one after the other, as places become free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

__all__ = ["Booking"]


class Booking:
    """Times at which places are likely to be free, each given to one.

    This process's own: with n replicas each time is given n times, and who finds the place taken books again. Beyond
    `horizon` nothing is booked, so that what was booked too far ahead (a burst that went elsewhere) is forgotten by
    then; those are told to ask again within the horizon's second half, each at another time.
    """

    def __init__(self, random: Callable[[], float], *, horizon: timedelta) -> None:
        self._random = random
        self._horizon = horizon
        self._booked_until_s = 0.0

    def wait(self, *, first: timedelta, step: timedelta) -> timedelta:
        """How long to wait, when the next place becomes free after `first` and others follow every `step`."""
        now_s = asyncio.get_running_loop().time()
        booked_s = max(self._booked_until_s, now_s + first.total_seconds()) + step.total_seconds()
        if booked_s - now_s > max(self._horizon, first + step).total_seconds():
            return self._horizon * (1 + self._random()) / 2
        self._booked_until_s = booked_s
        return timedelta(seconds=booked_s - now_s)
