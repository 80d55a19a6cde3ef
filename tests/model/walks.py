"""Random walks through scopes that are too large to be searched: nothing forbidden happens, and each has an end."""

from __future__ import annotations

import time
from random import Random

from model.explorer import Search
from model.inboxes import Machine
from model.world import Scope, State, Violation, World

__all__ = ["walk"]

_TOO_LONG = 3_000
_FAULTS = (0.01, 0.03, 0.1, 0.3)  # how likely a fault is, beside all that may happen as well


def walk(scope: Scope, machine: Machine, *, seconds: float, random: Random) -> Search:
    """Walk for so long; `states` counts the walks."""
    world, search, began = World(scope, machine), Search(scope, is_complete=False), time.perf_counter()
    while time.perf_counter() - began < seconds and not search.problem:
        _one(world, search, random)
        search.states += 1
    search.seconds = time.perf_counter() - began
    return search


def _one(world: World, search: Search, random: Random) -> None:
    state, way, fault = world.initial(), list[str](), random.choice(_FAULTS)
    while not world.is_goal(state) or random.random() < 0.2:
        moves = world.moves(state)
        if not moves:
            break
        ((name, _, following),) = random.choices(moves, [fault if cost else 1 for _, cost, _ in moves])
        way.append(name)
        search.transitions += 1
        if isinstance(following, Violation):
            search.problem, search.trace = str(following), way
            return
        state = following
        if len(way) > _TOO_LONG:
            search.problem, search.trace = "no end", way[-40:]
            return
    _check_end(world, state, search, way)


def _check_end(world: World, state: State, search: Search, way: list[str]) -> None:
    if not world.is_goal(state):
        search.problem, search.trace = "no way on from here", [*way, str(state)]
