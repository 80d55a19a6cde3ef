"""Repetitions are a share of first tries at most, so that an outage does not become a storm of them.

Source of the idea: Google, "Site Reliability Engineering", chapter 21, "Handling Overload" (per-client retry budget).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from eai_agent_router.agent import History, Turn
from eai_agent_router.guards.waits import RetriesSpent

__all__ = ["BudgetRules", "RetryBudget"]


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """How many retries one process may make: a share of its first tries, and a few in any case."""

    share: float = 0.2
    at_least_a_minute: int = 10  # where traffic is thin, a share of it would be none
    most_saved: float = 20.0


class RetryBudget:
    """An account: first tries and time pay in, a retry is paid from it; one that cannot be paid waits."""

    def __init__(self, provider: str, rules: BudgetRules, *, random: Callable[[], float]) -> None:
        self._provider = provider
        self._rules = rules
        self._random = random
        self._saved = rules.most_saved
        self._at_s = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def passing(self, asked: Turn | History) -> AsyncIterator[None]:
        """One try. Raises RetriesSpent for a retry that is one too many."""
        self._pay_in(self._earned_since_last())
        if asked.attempt == 1:
            self._pay_in(self._rules.share)
        elif self._saved < 1:
            raise RetriesSpent(f"too many tries at {self._provider} are retries", delay=self._later())
        else:
            self._saved -= 1
        yield

    def _earned_since_last(self) -> float:
        now_s = asyncio.get_running_loop().time()
        earned = (now_s - self._at_s) * self._rules.at_least_a_minute / 60
        self._at_s = now_s
        return earned

    def _pay_in(self, amount: float) -> None:
        self._saved = min(self._rules.most_saved, self._saved + amount)

    def _later(self) -> timedelta:
        """Spread widely: those who wait here are the storm that is being prevented."""
        return timedelta(seconds=10 + 20 * self._random())
