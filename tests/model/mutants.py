"""The guards of the state machine, each taken out of its source: what the checker must find.

A mutant is the real source with one snippet changed, so a guard that is rewritten shows up here as one that is missing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import cast

from model.inboxes import Machine
from model.world import Scope

from eai_common.turns import machine

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """A guard: how it stands in the source, the `code` without it, and a small scope that needs it."""

    guard: str
    code: str
    instead: str
    scope: Scope

    def machine(self) -> Machine:
        """The state machine without the guard. Raises LookupError if the source has no such code, or has it twice."""
        source = inspect.getsource(machine)
        if source.count(self.code) != 1:
            raise LookupError(f"{self.guard}: the source has its code {source.count(self.code)} times")
        module = ModuleType("mutant")
        exec(compile(source.replace(self.code, self.instead), "mutant", "exec"), module.__dict__)
        return cast(Machine, module)


MUTANTS: tuple[Mutant, ...] = ()
