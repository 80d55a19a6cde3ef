"""The state machine under check, behind small numbers: inboxes are numbered, calls are remembered, names are canonical.

Workers are numbers; 0 is nobody. After each call the owner of the lease is 1, and the owner of the turn 1 or 2; the
caller renames its workers by what the call says. Time is taken out: a lease or a pause lasts until the checker ends it,
and a call is made at one of three instants, of which only the order matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from eai_common.turns import state
from eai_common.turns.state import Grant, Inbox, Message, Ref, Rules

__all__ = ["AT_ONCE", "FRESH", "OVERDUE", "QUIET", "Called", "Inboxes", "Machine", "Run"]

AT_ONCE, QUIET, OVERDUE = 5, 100, 2000  # the instants: at once, after the merge window, after the wait for a transcript
FRESH = 90  # the name that a call brings
_STALE, _CURRENT, _ENDLESS = 1, 2, 10**12
_WINDOW, _TRANSCRIPT_WAIT = 10, 1000

Run = tuple[int, int]
"""A message and the number of its replay."""


class Machine(Protocol):
    """`eai_common.turns.machine`, or a mutant of it."""

    accept: Callable[..., Any]
    withdraw: Callable[..., Any]
    cancel: Callable[..., Any]
    begin: Callable[..., Any]
    ask: Callable[..., Any]
    later: Callable[..., Any]
    record: Callable[..., Any]
    emitted: Callable[..., Any]
    hand_over: Callable[..., Any]
    renew: Callable[..., Any]


class Called(NamedTuple):
    """What a call did: the inbox now, the answer, who is called what now, whether a turn was handed out anew, and the
    outcomes that were recorded."""

    inbox: int
    answer: tuple[Any, ...]
    names: dict[int, int]
    is_handed_out: bool
    recorded: tuple[tuple[int, int, bytes], ...]


class Inboxes:
    """All states of the inbox that came up. `messages` are those of the scope, in order of acceptance."""

    def __init__(
        self, machine: Machine, messages: list[Message], *, fail_if_uncertain: bool, most_lost: int, is_quiet: bool
    ):
        self._machine = machine
        self._messages = messages
        self._rules = Rules(
            fail_if_uncertain=fail_if_uncertain,
            most_lost=most_lost,
            turn_size=20,
            lease_ms=_ENDLESS,
            merge_window_ms=_WINDOW if is_quiet else 0,
            transcript_wait_ms=_TRANSCRIPT_WAIT,
        )
        self.states: list[Inbox] = []
        self._numbers: dict[Inbox, int] = {}
        self._called: dict[tuple[Any, ...], Called] = {}
        self.empty = self.number(Inbox())

    def number(self, inbox: Inbox) -> int:
        """The number of a canonical inbox."""
        found = self._numbers.get(inbox)
        if found is None:
            found = self._numbers[inbox] = len(self.states)
            self.states.append(inbox)
        return found

    def call(self, name: str, inbox: int, *args: Any, at: int = QUIET) -> Called:
        """Make the call `name`, as the method here says that prepares it."""
        key = (name, inbox, args, at)
        called = self._called.get(key)
        if called is None:
            before = self.states[inbox]
            after, answer = getattr(self, f"_{name}")(before, at, *args)
            called = self._called[key] = self._canonical(before, after, answer)
        return called

    def names(self, inbox: int) -> dict[int, int]:
        """The owners in a canonical inbox are called what they are called."""
        lease, turn = self.states[inbox].lease, self.states[inbox].turn
        owners = [0, 1] if lease is not None else [0]
        if turn is not None and turn.grant.owner:
            owners.append(_number(turn.grant.owner))
        return {owner: owner for owner in owners}

    # -- each call, from the checker's words into the machine's

    def _accept(self, inbox: Inbox, at: int, i: int, is_late: bool = False) -> Any:
        message = self._messages[i]
        return self._machine.accept(inbox, message, is_late=is_late, rules=self._rules, now=at)

    def _withdraw(self, inbox: Inbox, at: int, i: int) -> Any:
        return self._machine.withdraw(inbox, self._messages[i].ref.message_id), None

    def _cancel(self, inbox: Inbox, at: int, i: int) -> Any:
        return self._machine.cancel(inbox, self._messages[i].ref.message_id)

    def _begin(self, inbox: Inbox, at: int, delivery: tuple[int, int, int], owner: int, failure: bytes | None) -> Any:
        i, _, replay = delivery
        ref = replace(self._messages[i].ref, replay=replay)
        message = replace(self._messages[i], ref=ref, is_heard=failure is None)
        return self._machine.begin(inbox, message, _name(owner), failure=failure, rules=self._rules, now=at)

    def _ask(self, inbox: Inbox, at: int, owner: int, tag: int, attempt: int) -> Any:
        return self._machine.ask(inbox, _grant(owner, tag), attempt, rules=self._rules, now=at)

    def _later(
        self, inbox: Inbox, at: int, owner: int, tag: int, is_sure: bool, attempts: int, delay: int, give_up: int | None
    ) -> Any:
        return self._machine.later(
            inbox,
            _grant(owner, tag),
            delay_ms=delay,
            is_sure=is_sure,
            attempts=attempts,
            errors=b"",
            give_up_after_ms=give_up,
            now=at,
        )

    def _record(
        self,
        inbox: Inbox,
        at: int,
        owner: int,
        tag: int,
        refs: tuple[Run, ...],
        labels: tuple[bytes, ...],
        own: Run,
        fresh: int,
    ) -> Any:
        outcomes = {self._ref(run): label for run, label in zip(refs, labels, strict=True)}
        grant = _grant(owner, tag)
        return self._machine.record(inbox, grant, outcomes, self._ref(own), _name(fresh), rules=self._rules, now=at)

    def _emitted(self, inbox: Inbox, at: int, owner: int, refs: tuple[Run, ...], own: Run, fresh: int) -> Any:
        runs = [self._ref(run) for run in refs]
        return self._machine.emitted(inbox, _name(owner), runs, self._ref(own), _name(fresh), rules=self._rules, now=at)

    def _hand_over(self, inbox: Inbox, at: int, owner: int, refs: tuple[Run, ...], own: Run) -> Any:
        runs = [self._ref(run) for run in refs]
        return self._machine.hand_over(inbox, _name(owner), runs, self._ref(own), rules=self._rules, now=at)

    def _renew(self, inbox: Inbox, at: int, owner: int, tag: int) -> Any:
        return self._machine.renew(inbox, _grant(owner, tag), rules=self._rules, now=at)

    # -- what no call does: time, and what Redis loses

    def _lease_ends(self, inbox: Inbox, at: int) -> Any:
        return replace(inbox, lease=None), None

    def _pause_ends(self, inbox: Inbox, at: int) -> Any:
        assert inbox.turn is not None
        return replace(inbox, turn=replace(inbox.turn, not_before=0)), None

    def _lose(self, inbox: Inbox, at: int, what: str) -> Any:
        if what == "entries":
            return replace(inbox, entries=()), None
        if what == "turn and lease":
            return replace(inbox, turn=None, lease=None), None
        return (replace(inbox, ended=()) if what == "ended" else Inbox()), None

    def _fail_over(self, inbox: Inbox, at: int, past: int, lease_owner: int, turn_owner: int) -> Any:
        """Back to an earlier state, whose owners are called so now."""
        then = self.states[past]
        lease = None if then.lease is None else replace(then.lease, owner=_name(lease_owner))
        turn = then.turn
        if turn is not None and turn.grant.owner:
            turn = replace(turn, grant=replace(turn.grant, owner=_name(turn_owner)))
        return replace(then, lease=lease, turn=turn), None

    # -- canonical form

    def _canonical(self, before: Inbox, after: Inbox, answer: object) -> Called:
        names = {0: 0}
        lease, turn = after.lease, after.turn
        if lease is not None:
            names[_number(lease.owner)] = 1
            lease = replace(lease, owner=_name(1), until=_ENDLESS)
        is_handed_out = False
        if turn is not None:
            is_handed_out = turn.grant.since > _CURRENT
            owner = names.setdefault(_number(turn.grant.owner), len(names))
            grant = Grant(_name(owner), _CURRENT if owner else 0)
            not_before = _ENDLESS if turn.not_before > OVERDUE else 0
            turn = replace(turn, grant=grant, not_before=not_before, first_asked=min(turn.first_asked, 1))
        entries = tuple(entry if not entry.entered_at else replace(entry, entered_at=0) for entry in after.entries)
        inbox = self.number(replace(after, entries=entries, lease=lease, turn=turn))
        return Called(inbox, self._compact(answer), names, is_handed_out, self._recorded(before, after))

    def _recorded(self, before: Inbox, after: Inbox) -> tuple[tuple[int, int, bytes], ...]:
        had = {entry.ref for entry in before.entries if entry.outcome is not None}
        return tuple(
            (*_run(entry.ref), entry.outcome)
            for entry in after.entries
            if entry.outcome is not None and entry.ref not in had
        )

    def _compact(self, answer: object) -> tuple[Any, ...]:
        match answer:
            case state.Turn():
                return ("turn", tuple(_run(question.ref) for question in answer.questions), answer.attempts)
            case state.Fail():
                return ("fail", tuple(_run(question.ref) for question in answer.questions), answer.code)
            case state.Emit():
                return ("emit", tuple((*_run(one.ref), one.outcome, one.number, one.after) for one in answer.emissions))
            case state.Changed():
                return ("changed", tuple(_run(ref) for ref in answer.refs))
            case state.Wait():
                return ("wait", answer.is_ended)
            case state.HandOver():
                return ("hand over", int(answer.body), answer.is_ended)
            case state.Held():
                return ("held", answer.is_interrupted)
            case state.Accepted():
                return ("accepted", answer.has_outcome)
        return (type(answer).__name__.lower(),)

    def _ref(self, run: Run) -> Ref:
        return replace(self._messages[run[0]].ref, replay=run[1])


def _run(ref: Ref) -> Run:
    return int(ref.message_id), ref.replay


def _name(owner: int) -> str:
    return f"{owner}" if owner else ""


def _number(name: str) -> int:
    return int(name or 0)


def _grant(owner: int, tag: int) -> Grant:
    return Grant(_name(owner), _CURRENT if tag & 1 else _STALE)
