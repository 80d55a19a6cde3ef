"""The protocol of a user's turns holds in every interleaving of small scopes; `check.py --all` has large ones."""

from __future__ import annotations

import pytest
from model.explorer import explore
from model.mutants import MUTANTS, Mutant
from model.scopes import LARGE, SCOPES, SMALL
from model.world import Scope

from eai_common.turns import machine


@pytest.mark.parametrize("scope", SMALL, ids=lambda scope: scope.name)
def test_every_promise_is_kept_in_every_interleaving(scope: Scope) -> None:
    search = explore(scope, machine)
    assert (search.problem, search.trace, search.is_complete) == ("", [], True)


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if not mutant.is_slow], ids=lambda mutant: mutant.guard
)
def test_a_guard_that_is_taken_out_is_missed(mutant: Mutant) -> None:
    assert mutant.found()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_the_guard_is_in_the_source(mutant: Mutant) -> None:
    mutant.machine()  # or LookupError


def test_a_scope_is_named_once() -> None:
    names = [scope.name for scope in (*SCOPES, *SMALL, *LARGE)]
    assert len(names) == len(set(names))
