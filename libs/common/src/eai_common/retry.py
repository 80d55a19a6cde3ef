"""When to try again: by exponential backoff with jitter, or by a fixed schedule; and when it was the last attempt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

__all__ = ["Backoff", "RetryPolicy", "Schedule"]


class RetryPolicy(Protocol):
    """How often and when a failed delivery is tried again."""

    def allows_another(self, attempt: int) -> bool:
        """Whether a failed try number `attempt` (1 is the first delivery) may be followed by another."""

    def delay(self, attempt: int, *, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta:
        """How long to wait after the failed try number `attempt`; a policy says how far it honours `retry_after`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One retry after each of these waits, without jitter: what a receiver was promised."""

    waits: tuple[timedelta, ...]

    def allows_another(self, attempt: int) -> bool:
        return attempt <= len(self.waits)

    def delay(self, attempt: int, *, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta:
        return max(self.waits[attempt - 1], retry_after or timedelta())


@dataclass(frozen=True, slots=True)
class Backoff:
    """`max_retries` tries follow the first; the n-th waits a random time up to `base` x 2^(n-1), at most `longest`.

    The whole time is random (full jitter): what failed together is spread as wide as it can be. Source of the idea: AWS
    Architecture Blog, "Exponential Backoff And Jitter". A provider's own wish comes before that time, and is limited by
    `longest`, too: some ask for days, and the user is waiting.
    """

    max_retries: int = 5
    base: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=10)

    def allows_another(self, attempt: int) -> bool:
        return attempt <= self.max_retries

    def delay(self, attempt: int, *, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta:
        # In seconds, as floats: a long base doubled often is more than a timedelta can be.
        ceiling_s = min(self.longest.total_seconds(), math.ldexp(self.base.total_seconds(), min(attempt - 1, 60)))
        return min(retry_after or timedelta(), self.longest) + timedelta(seconds=ceiling_s * random())
