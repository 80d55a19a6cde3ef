"""Guards of their own for each target, so that one's trouble is no other's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_common.guards.guard import Call, Guard, GuardChain, NewGuards

__all__ = ["GuardsByTarget"]


@dataclass(slots=True)
class _Target:
    guards: Sequence[Guard]
    in_flight: int = 0


class GuardsByTarget:
    """Makes guards when a target is first called, and forgets those of targets that were not called for longest.

    The `known` targets have theirs at once. Targets that callers make up would fill the memory without `max_targets`.
    It must be more than the calls that a process has under way: a target that is being called is kept.
    """

    def __init__(self, new_guards: NewGuards, *, known: Sequence[str] = (), max_targets: int = 10_000) -> None:
        self._new_guards = new_guards
        self._max_targets = max_targets
        # The least recently called first.
        self._targets: dict[str, _Target] = {name: _Target(new_guards(name)) for name in known}

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises what the target's guards raise."""
        target = self._of(call.target)
        target.in_flight += 1
        try:
            async with GuardChain(target.guards, call) as passed:
                yield passed
        finally:
            target.in_flight -= 1

    def _of(self, name: str) -> _Target:
        target = self._targets.pop(name, None) or _Target(self._new_guards(name))
        self._targets[name] = target
        if len(self._targets) > self._max_targets:
            del self._targets[next(name for name, one in self._targets.items() if not one.in_flight)]
        return target
