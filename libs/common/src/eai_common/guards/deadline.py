"""The end of a call: one deadline, and one way to become an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import StageError
from eai_common.guards.guard import Call

__all__ = ["TimeLimit", "deadline_scope"]

Overdue = Callable[[str], StageError]
"""Makes the error of a call that did not end in time."""


@asynccontextmanager
async def deadline_scope(deadline: Deadline, name: str, overdue: Overdue) -> AsyncIterator[None]:
    """End what runs inside at the deadline. Raises `overdue`; at once, with nothing run, if the deadline has passed."""
    _require_time(deadline, name, overdue)
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            yield
    except TimeoutError as error:
        raise overdue(f"{name} did not answer before the deadline") from error


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """Gives a call `longest` at most, and makes none once its deadline has passed.

    Outside of the breaker: that we are late says nothing about the other side. The call itself ends at its deadline.
    """

    name: str
    longest: timedelta | None
    overdue: Overdue

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises `overdue` if the deadline has passed."""
        _require_time(call.deadline, self.name, self.overdue)
        yield call if self.longest is None else replace(call, deadline=call.deadline.within(self.longest))


def _require_time(deadline: Deadline, name: str, overdue: Overdue) -> None:
    if deadline.has_passed:
        raise overdue(f"no time was left to ask {name}")
