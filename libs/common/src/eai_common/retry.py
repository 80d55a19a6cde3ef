"""How often and when a failed delivery is retried: exponential backoff with jitter, or a fixed schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

__all__ = ["Backoff", "RetryPolicy", "Schedule"]


class RetryPolicy(Protocol):
    """How often and when a failed delivery is retried."""

    def allows_another(self, attempt: int) -> bool:
        """Whether another attempt may follow the failed attempt number `attempt`; 1 is the first delivery."""

    def delay(self, attempt: int, *, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta:
        """How long to wait after the failed attempt number `attempt`; each policy decides what `retry_after` does."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One retry after each of these waits, without jitter."""

    waits: tuple[timedelta, ...]

    def allows_another(self, attempt: int) -> bool:
        return attempt <= len(self.waits)

    def delay(self, attempt: int, *, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta:
        return max(self.waits[attempt - 1], retry_after or timedelta())


@dataclass(frozen=True, slots=True)
class Backoff:
    """`max_retries` retries; the n-th waits a random time up to `base` x 2^(n-1), at most `longest`.

    The whole time is random (full jitter), which spreads what failed together (source: AWS Architecture Blog,
    "Exponential Backoff And Jitter"). It comes after the provider's `retry_after`. That is limited to `longest`, too,
    because some providers ask for days and the user is waiting.
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
