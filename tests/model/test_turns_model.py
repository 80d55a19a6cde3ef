"""The protocol of a user's turns holds in every interleaving of small scopes; `check.py --all` has large ones."""

from __future__ import annotations

import pytest
from model.explorer import explore
from model.mutants import MUTANTS, Mutant
from model.scopes import LARGE, SCOPES, SMALL
from model.suspects import Company, search
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


COMPANIES = [
    Company(killers=1, innocents=3, processes=1),
    Company(killers=1, innocents=3, processes=2),
    Company(killers=1, innocents=2, processes=2, other_deaths=2),
    Company(killers=2, innocents=1, processes=2),
]


@pytest.mark.parametrize("company", COMPANIES, ids=str)
def test_nobody_is_given_up_for_being_asked_beside_a_message_that_kills(company: Company) -> None:
    outcome = search(company, machine)
    assert (outcome.innocent_given_up, outcome.all_end) == (False, True)


def test_a_suspect_that_is_asked_beside_another_may_be_given_up_with_it() -> None:
    company = Company(killers=1, innocents=3, processes=1, is_quarantined=False)
    assert search(company, machine).innocent_given_up


def test_a_scope_is_named_once() -> None:
    names = [scope.name for scope in (*SCOPES, *SMALL, *LARGE)]
    assert len(names) == len(set(names))
