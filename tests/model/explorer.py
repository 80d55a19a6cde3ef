"""Searches all states of a scope, breadth-first, for a violation; then the whole graph for a state without a way out.

Liveness: from each state an end can be reached without further faults, and no cycle exists that weak fairness allows,
that is: one in which every action that is possible all the time is also taken.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from model.inboxes import Machine
from model.world import Scope, State, Violation, World

__all__ = ["Search", "explore"]

_BITS = 24  # more than 16 million distinct parts of one kind are too many anyway


@dataclass
class Search:
    """What a search found. `problem` says in words what is wrong, `trace` how it comes about."""

    scope: Scope
    states: int = 0
    transitions: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    problem: str = ""
    trace: list[str] = field(default_factory=list)
    actions: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        verdict = self.problem or ("holds" if self.is_complete else "holds as far as it was searched")
        counts = f"{self.states:10,d} states {self.transitions:11,d} transitions {self.seconds:7.1f} s"
        return "\n      ".join([f"{self.scope.name:50s} {counts}  {verdict}", *self.trace])


def explore(scope: Scope, machine: Machine, *, most_states: int = 5_000_000, is_live: bool = True) -> Search:
    """Search the scope."""
    graph = _Graph(World(scope, machine))
    began = time.perf_counter()
    search = graph.search(most_states, is_live)
    if is_live and search.is_complete and not search.problem:
        graph.find_dead_end(search)
        graph.find_cycle(search)
    search.seconds = time.perf_counter() - began
    search.actions = set(graph.labels)
    return search


class _Graph:
    """States by number, in the order in which they were found, and the moves between them that are no faults."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.parts: list[dict[object, int]] = [{}, {}, {}, {}]
        self.values: list[list[object]] = [[], [], [], []]
        self.keys: list[int] = []
        self.numbers: dict[int, int] = {}
        self.parent = array("i")
        self.via = array("i")
        self.labels: dict[str, int] = {}
        self.free: list[array[int]] = []  # of each state: successor, label, successor, label, ...

    def pack(self, state: State) -> int:
        key = state.inbox
        for value, table, values in zip(state[1:], self.parts, self.values, strict=True):
            number = table.get(value)
            if number is None:
                number = table[value] = len(values)
                values.append(value)
            key = key << _BITS | number
        return key

    def state(self, number: int) -> State:
        key, parts = self.keys[number], []
        for values in reversed(self.values):
            parts.append(values[key & (1 << _BITS) - 1])
            key >>= _BITS
        return State(key, *reversed(parts))  # type: ignore[arg-type]  # what `pack` was given

    def add(self, state: State, parent: int, via: int) -> int:
        key = self.pack(state)
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.keys)
            self.keys.append(key)
            self.parent.append(parent)
            self.via.append(via)
        return number

    def search(self, most_states: int, is_live: bool) -> Search:
        search = Search(self.world.scope)
        self.add(self.world.initial(), -1, -1)
        at = 0
        while at < len(self.keys):
            if len(self.keys) > most_states:
                search.is_complete = False
                break
            free = array("i")
            for name, cost, following in self.world.moves(self.state(at)):
                search.transitions += 1
                if isinstance(following, Violation):
                    search.problem, search.trace = str(following), [*self.way_to(at), name]
                    search.states = len(self.keys)
                    return search
                label = self.labels.setdefault(name, len(self.labels))
                number = self.add(following, at, label)
                if is_live and not cost:
                    free.extend((number, label))
            self.free.append(free)
            at += 1
        search.states = len(self.keys)
        return search

    def way_to(self, number: int) -> list[str]:
        """The labels of the shortest way to a state."""
        names, way = list(self.labels), []
        while self.parent[number] >= 0:
            way.append(names[self.via[number]])
            number = self.parent[number]
        return way[::-1]

    def successors(self, number: int) -> Iterator[int]:
        return islice(self.free[number], 0, None, 2)

    def find_dead_end(self, search: Search) -> None:
        """A state from which no end can be reached without further faults."""
        count = len(self.keys)
        self.is_goal = bytearray(self.world.is_goal(self.state(number)) for number in range(count))
        reaches, before = bytearray(self.is_goal), self._predecessors(count)
        todo = deque(number for number in range(count) if reaches[number])
        while todo:
            for number in before(todo.popleft()):
                if not reaches[number]:
                    reaches[number] = 1
                    todo.append(number)
        if (stuck := reaches.find(0)) >= 0:
            search.problem, search.trace = "no way on from here", [*self.way_to(stuck), str(self.state(stuck))]

    def _predecessors(self, count: int):  # type: ignore[no-untyped-def]  # set below
        start = array("i", bytes(4 * (count + 1)))
        for number in range(count):
            for following in self.successors(number):
                start[following + 1] += 1
        for number in range(count):
            start[number + 1] += start[number]
        place, before = array("i", start), array("i", bytes(4 * start[count]))
        for number in range(count):
            for following in self.successors(number):
                before[place[following]] = number
                place[following] += 1
        return lambda number: before[start[number] : start[number + 1]]

    def find_cycle(self, search: Search) -> None:
        """A cycle, short of the end, that weak fairness allows."""
        if search.problem:
            return
        for members in self._components():
            inside = set(members)
            taken: set[int] = set()
            always: set[int] | None = None
            for number in members:
                moves = self.free[number]
                enabled = set(moves[1::2])
                taken.update(
                    label for following, label in zip(moves[::2], moves[1::2], strict=True) if following in inside
                )
                always = enabled if always is None else always & enabled
            if always is not None and always <= taken:
                names = list(self.labels)
                search.problem = f"may go round for ever: {', '.join(sorted(names[label] for label in taken))}"
                search.trace = self.way_to(members[-1])
                return

    def _components(self) -> Iterator[list[int]]:
        """The strongly connected components of more than one state, without those at the end (Tarjan)."""
        count = len(self.keys)
        order, low, on_stack = array("i", bytes(4 * count)), array("i", bytes(4 * count)), bytearray(count)
        counter, stack = 0, list[int]()
        for root in range(count):
            if order[root] or self.is_goal[root]:
                continue
            work: list[tuple[int, Iterator[int]]] = [(root, self.successors(root))]
            while work:
                number, following = work[-1]
                if not order[number]:
                    counter += 1
                    order[number] = low[number] = counter
                    stack.append(number)
                    on_stack[number] = 1
                for other in following:
                    if self.is_goal[other]:
                        continue
                    if not order[other]:
                        work.append((other, self.successors(other)))
                        break
                    if on_stack[other]:
                        low[number] = min(low[number], order[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[number])
                    if low[number] == order[number]:
                        members = self._popped(stack, on_stack, number)
                        if len(members) > 1:
                            yield members

    @staticmethod
    def _popped(stack: list[int], on_stack: bytearray, root: int) -> list[int]:
        members = []
        while True:
            number = stack.pop()
            on_stack[number] = 0
            members.append(number)
            if number == root:
                return members
