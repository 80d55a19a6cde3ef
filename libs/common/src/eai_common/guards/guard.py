"""The port: a guard lets a call to the outside pass, or defers it. A chain of guards is a list of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Protocol

from eai_common.clock import Deadline
from eai_common.errors import Deferred, Retriable

__all__ = ["Call", "Guard", "GuardWait", "NewGuards", "enforce_max_wait", "enter_all"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the outside, as guards see it."""

    deadline: Deadline
    target: str = ""  # what exactly is called, an engine or a host: some guards keep a state for each
    attempt: int = 1


class Guard(Protocol):
    """Lets a call pass, or raises a GuardWait instead."""

    def enter(self, call: Call) -> AbstractAsyncContextManager[Call]:
        """Make the call inside, as the guard hands it on: a time limit makes its deadline earlier."""


NewGuards = Callable[[str], Sequence[Guard]]
"""Makes the guards of one target, outermost first."""


class GuardWait(Deferred):
    """Not now: no call was made. `overdue` is what it becomes when the message has waited for too long."""

    overdue: ClassVar[type[Retriable]] = Retriable


@asynccontextmanager
async def enter_all(guards: Sequence[Guard], call: Call) -> AsyncIterator[Call]:
    """Make the call inside of all guards, outermost first. Raises the GuardWait of the one that defers it."""
    async with AsyncExitStack() as stack:
        for guard in guards:
            call = await stack.enter_async_context(guard.enter(call))
        yield call


@contextmanager
def enforce_max_wait(max_wait: timedelta, *, waited: timedelta) -> Iterator[None]:
    """Let a GuardWait cost no attempt until the message has waited for `max_wait`, all attempts together.

    Afterwards raises the wait's `overdue` error instead, of which there is a last one: every message ends.
    """
    try:
        yield
    except GuardWait as error:
        if waited < max_wait:
            raise
        text = f"{error}, and the message has waited for {waited.total_seconds():.0f} s"
        raise error.overdue(text, retry_after=error.delay) from error
