"""The port: a guard lets a call to the outside pass, or defers it. A chain of guards is a list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import ClassVar, Protocol

from eai_common.clock import Deadline
from eai_common.errors import Deferred, Retriable

__all__ = ["Call", "Guard", "GuardWait", "NewGuards", "enforce_max_wait", "GuardChain"]


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


class GuardChain:
    """Guards in their order, the outermost first: `async with GuardChain(guards, call) as call` makes the call inside.

    A context manager without a generator: half its price. Raises the GuardWait of the guard that defers the call.
    """

    def __init__(self, guards: Sequence[Guard], call: Call) -> None:
        self._guards = guards
        self._call = call
        self._entered: list[AbstractAsyncContextManager[Call]] = []

    async def __aenter__(self) -> Call:
        try:
            for guard in self._guards:
                context = guard.enter(self._call)
                self._call = await context.__aenter__()
                self._entered.append(context)
        except BaseException as error:
            await self._leave(error)
            raise
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        """Leave the guards, innermost first; each learns of the error, and may raise another in its place."""
        raised = error
        for context in reversed(self._entered):
            kind, trace = (None, None) if raised is None else (type(raised), raised.__traceback__)
            try:
                await context.__aexit__(kind, raised, trace)
            except BaseException as other:  # noqa: BLE001  # raised below, once every guard is left
                raised = other
        if raised is not None and raised is not error:
            raise raised


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
