"""Retries are a share of first attempts at most, so that an outage does not become a storm of them.

Source of the idea: Google, "Site Reliability Engineering", chapter 21, "Handling Overload" (per-client retry budget).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from eai_common.guards.guard import Call, GuardWait

__all__ = ["BudgetRules", "RetryBudget"]


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """How many retries one process may make: a share of its first attempts, and a few in any case."""

    share: float = 0.2
    at_least_a_minute: int = 10  # where traffic is thin, a share of it would be none
    most_saved: float = 20.0


class RetryBudget:
    """An account: first attempts and time pay in, a retry is paid from it. A retry that cannot be paid is deferred."""

    def __init__(self, name: str, rules: BudgetRules, *, refusal: type[GuardWait], random: Callable[[], float]) -> None:
        self._name = name
        self._rules = rules
        self._refusal = refusal
        self._random = random
        self._saved = rules.most_saved
        self._at_s = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises the refusal for a retry that is one too many."""
        self._pay_in(self._earned_since_last())
        if call.attempt == 1:
            self._pay_in(self._rules.share)
        elif self._saved < 1:
            # Spread widely: what waits here is the storm that is being prevented.
            delay = timedelta(seconds=10 + 20 * self._random())
            raise self._refusal(f"too many attempts at {self._name} are retries", delay=delay)
        else:
            self._saved -= 1
        yield call

    def _earned_since_last(self) -> float:
        now_s = asyncio.get_running_loop().time()
        earned = (now_s - self._at_s) * self._rules.at_least_a_minute / 60
        self._at_s = now_s
        return earned

    def _pay_in(self, amount: float) -> None:
        self._saved = min(self._rules.most_saved, self._saved + amount)
