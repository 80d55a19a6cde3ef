"""The date as a dependency, and deadlines. Durations are the event loop's: its `time()`, and the sleeps of asyncio.

A simulation owns both: it passes its own clock in and runs on a loop whose time is virtual.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "Deadline", "SystemClock"]

_LARGEST_MARGIN = 0.1


class Clock(Protocol):
    """Tells the date and time."""

    def now(self) -> datetime:
        """The wall time, in UTC."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Deadline:
    """One absolute point in time, made where a message comes in and handed inwards; nobody below adds a timeout.

    Its methods raise RuntimeError where no event loop runs, in a thread for instance.
    """

    at_s: float  # in the event loop's time

    @classmethod
    def after(cls, duration: timedelta) -> Deadline:
        """The deadline that lies `duration` ahead."""
        return cls(asyncio.get_running_loop().time() + duration.total_seconds())

    def remaining_s(self) -> float:
        """Seconds left, 0.0 when it has passed: what a client library takes as its timeout."""
        return max(0.0, self.at_s - asyncio.get_running_loop().time())

    def within(self, duration: timedelta) -> Deadline:
        """This deadline, or the one that lies `duration` ahead if that comes sooner."""
        return min(self, Deadline.after(duration), key=lambda deadline: deadline.at_s)

    def less(self, margin: timedelta) -> Deadline:
        """This deadline, less what is to be done after it; of a short time no more than a tenth is taken."""
        margin_s = min(margin.total_seconds(), self.remaining_s() * _LARGEST_MARGIN)
        return Deadline(self.at_s - margin_s)

    @property
    def has_passed(self) -> bool:
        return self.remaining_s() == 0.0
