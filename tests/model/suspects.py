"""Messages that kill their process, beside innocent ones of other users: who is given up?

A suspect is a turn whose ask was lost before. The rule under check is the worker's: a suspect is asked only while its
process asks no other suspect, else it is put off. So innocents are lost together with a killer once at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from model.inboxes import FRESH, Inboxes, Machine

from eai_common.turns import Message, Ref

__all__ = ["Company", "Outcome", "search"]


@dataclass(frozen=True)
class Company:
    """Who is asked beside whom."""

    killers: int
    innocents: int
    processes: int
    other_deaths: int = 0
    is_quarantined: bool = True


class _User(NamedTuple):
    inbox: int
    process: int = -1  # that asks; -1: nobody
    lost: int = 0
    end: str = ""


class _State(NamedTuple):
    users: tuple[_User, ...]
    other_deaths: int


@dataclass(frozen=True)
class Outcome:
    """What can become of them."""

    states: int
    innocent_given_up: bool
    all_end: bool


def search(company: Company, machine: Machine) -> Outcome:
    """Every interleaving of one message for each user."""
    world = _World(company, machine)
    start = _State((_User(world.inboxes.empty),) * (company.killers + company.innocents), company.other_deaths)
    seen, todo, all_end = {start}, deque([start]), True
    while todo:
        state = todo.popleft()
        following = list(world.moves(state))
        all_end = all_end and (bool(following) or all(user.end for user in state.users))
        for other in following:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    given_up = any(user.end == "given up" for state in seen for user in state.users[company.killers :])
    return Outcome(len(seen), given_up, all_end)


class _World:
    def __init__(self, company: Company, machine: Machine) -> None:
        message = Message(Ref("0"), 1, b"0", "agent")
        self.company = company
        self.inboxes = Inboxes(machine, [message], fail_if_uncertain=False, most_lost=3, is_quiet=False)

    def moves(self, state: _State) -> Iterator[_State]:
        for number, user in enumerate(state.users):
            if user.process >= 0 and number >= self.company.killers:
                yield self._with(state, number, user._replace(process=-1, end="answered"))
            elif user.process < 0 and not user.end:
                for process in range(self.company.processes):
                    yield self._with(state, number, self._begun(state, user, process))
        for process in range(self.company.processes):
            has_killer = any(user.process == process for user in state.users[: self.company.killers])
            if has_killer or state.other_deaths and any(user.process == process for user in state.users):
                users = tuple(self._dead(user) if user.process == process else user for user in state.users)
                yield _State(users, state.other_deaths - (not has_killer))

    def _begun(self, state: _State, user: _User, process: int) -> _User:
        """A process takes the message up: asks it, puts it off, or is told to give it up."""
        called = self.inboxes.call("begin", user.inbox, (0, 0, 0), FRESH, None)
        if called.answer[0] == "fail":
            return user._replace(end="given up")
        turn = self.inboxes.states[called.inbox].turn
        assert turn is not None
        is_crowded = any(other.process == process and other.lost for other in state.users)
        if self.company.is_quarantined and turn.lost and is_crowded:
            later = self.inboxes.call("later", called.inbox, 1, 1, True, 0, 0, None)
            return user._replace(inbox=later.inbox, lost=turn.lost)
        asked = self.inboxes.call("ask", called.inbox, 1, 1, 1)
        return _User(asked.inbox, process, turn.lost)

    def _dead(self, user: _User) -> _User:
        return user._replace(inbox=self.inboxes.call("lease_ends", user.inbox).inbox, process=-1)

    @staticmethod
    def _with(state: _State, number: int, user: _User) -> _State:
        return state._replace(users=(*state.users[:number], user, *state.users[number + 1 :]))
