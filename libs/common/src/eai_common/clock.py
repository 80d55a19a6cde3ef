"""Time as a dependency, so that a simulation can own it. Stage code never asks the system for the time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "Deadline", "SystemClock"]

_LARGEST_MARGIN = 0.1


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def now(self) -> datetime:
        """The wall time, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never runs backwards."""

    async def sleep(self, duration: timedelta) -> None:
        """Return after `duration`."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


@dataclass(frozen=True, slots=True)
class Deadline:
    """One absolute point in time, made where a message comes in and handed inwards; nobody below adds a timeout."""

    at_s: float  # in the clock's monotonic seconds
    clock: Clock

    @classmethod
    def after(cls, duration: timedelta, clock: Clock) -> Deadline:
        """The deadline that lies `duration` ahead."""
        return cls(clock.monotonic() + duration.total_seconds(), clock)

    def remaining_s(self) -> float:
        """Seconds left, 0.0 when it has passed: what a client library takes as its timeout."""
        return max(0.0, self.at_s - self.clock.monotonic())

    def within(self, duration: timedelta) -> Deadline:
        """This deadline, or the one that lies `duration` ahead if that comes sooner."""
        return min(self, Deadline.after(duration, self.clock), key=lambda deadline: deadline.at_s)

    def less(self, margin: timedelta) -> Deadline:
        """This deadline, less what is to be done after it; of a short time no more than a tenth is taken."""
        margin_s = min(margin.total_seconds(), self.remaining_s() * _LARGEST_MARGIN)
        return Deadline(self.at_s - margin_s, self.clock)

    @property
    def has_passed(self) -> bool:
        return self.remaining_s() == 0.0
