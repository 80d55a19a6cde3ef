"""The guards of the state machine, each taken out of its source: what the checker must find.

A mutant is the real source with one snippet changed, so a guard that is rewritten shows up here as one that is missing.
What is a choice and no guard, as the quiet window's length, is held by the package's own tests.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import cast

from model.explorer import explore
from model.inboxes import Machine
from model.world import Scope

from eai_common.turns import machine

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """A guard: how it stands in the source, the `code` without it, and a small scope that needs it."""

    guard: str
    scope: Scope
    code: str
    instead: str
    is_slow: bool = False  # more than a second or two

    def machine(self) -> Machine:
        """The state machine without the guard. Raises LookupError if the source has no such code, or has it twice."""
        source = inspect.getsource(machine)
        if source.count(self.code) != 1:
            raise LookupError(f"{self.guard}: the source has its code {source.count(self.code)} times")
        module = ModuleType("mutant")
        exec(compile(source.replace(self.code, self.instead), "mutant", "exec"), module.__dict__)
        return cast(Machine, module)

    def found(self) -> str:
        """What the checker says is wrong with it; empty if nothing."""
        try:
            return explore(self.scope, self.machine()).problem
        except (IndexError, ValueError) as error:  # the mutant itself stumbles, or has no answer for a worker
            return f"{type(error).__name__}: {error}"


def _only(*faults: str) -> frozenset[str]:
    return frozenset(faults)


_LAPSE_LATE = _only("lapse", "late")


def _scope(
    types: str,
    modes: str = "",
    *,
    faults: int = 0,
    kinds: frozenset[str] = frozenset(),
    errors: int = 0,
    refusals: int = 0,
    replays: int = 0,
    cancels: int = 0,
    fail: bool = False,
    clocks: tuple[int, ...] = (),
    is_quiet: bool = False,
) -> Scope:
    return Scope(
        f"{types} {modes} {errors} errors {faults} faults",
        types,
        modes,
        faults=faults,
        kinds=kinds,
        errors=errors,
        refusals=refusals,
        replays=replays,
        cancels=cancels,
        fail_if_uncertain=fail,
        clocks=clocks,
        is_quiet=is_quiet,
    )


_DONE = """    if end is not None and message.ref.replay <= end:
        return inbox, Done()
"""
_ASK_FENCE = """    if turn is None or turn.grant != grant:
        return inbox, Lost()
    if turn.is_inter"""
_LATER_FENCE = """    if turn is None or turn.grant != grant:
        return _free"""
_RECORD_FENCE = """    if turn is not None and turn.grant == grant:
        if set("""
_REFS = "replace(turn, refs=tuple(ref for ref in turn.refs if ref != entry.ref))"
_MAY_GROW = "    return not turn.lost and not (turn.is_uncertain and rules.fail_if_uncertain)"
_ALIKE = 'entry.group == first.group != "" and not entry.ref.replay and not first.ref.replay'

MUTANTS = (
    # -- ingress
    Mutant(
        "accept enters nothing that has ended",
        _scope("tt", faults=1, kinds=_only("late")),
        "    if end is not None and message.ref.replay <= end:\n        return inbox, Ended()\n",
        "",
    ),
    Mutant(
        "accept leaves an open message alone",
        _scope("tt", faults=1, kinds=_only("late")),
        "    if entry is not None or message.ref.replay:\n",
        "    if message.ref.replay:\n",
    ),
    Mutant(
        "a place is after all that are given out",
        _scope("tt", clocks=(5, 3)),
        "max(message.accepted_at, last + 1)",
        "message.accepted_at",
    ),
    Mutant(
        "a place is after all that have left",
        _scope("tt", clocks=(5, 3)),
        "last = max(inbox.last, inbox.entries[-1].place if inbox.entries else 0)",
        "last = inbox.entries[-1].place if inbox.entries else 0",
    ),
    Mutant(
        "withdraw spares what is in a turn",
        _scope("tt", "mm", faults=1, fail=True),
        " or _is_in_turn(inbox, entry.ref):",
        ":",
    ),
    Mutant(
        "withdraw spares what has its outcome",
        _scope("t", faults=3, kinds=_only("unsure", "late", "crash")),
        "    if entry is None or entry.outcome is not None or entry.ref.replay",
        "    if entry is None or entry.ref.replay",
    ),
    Mutant(
        "withdraw spares a replay",
        _scope("t", refusals=1, replays=1, faults=3, kinds=_only("unsure", "late", "lapse")),
        " or entry.ref.replay or _is_in_turn",
        " or _is_in_turn",
    ),
    Mutant(
        "cancel spares what has its outcome",
        _scope("t", cancels=1, faults=1),
        "    if entry.outcome is not None:\n        return inbox, Cancelled(entry.body) if entry.outcome == CANCELLED",
        "    if False:\n        return inbox, Cancelled(entry.body) if entry.outcome == CANCELLED",
    ),
    Mutant(
        "cancel takes the message out of its turn",
        _scope("tt", "mm", cancels=1, faults=1, kinds=_only("lapse")),
        _REFS,
        "turn",
    ),
    Mutant(
        "cancel stops the turn",
        _scope("t", cancels=1),
        f"inbox = _stop(inbox, {_REFS})",
        f"inbox = replace(inbox, turn={_REFS})",
    ),
    # -- begin
    Mutant("what has ended is not begun again", _scope("tt"), _DONE, ""),
    Mutant(
        "a replay is begun, though its message has ended",
        _scope("t", refusals=1, replays=1),
        _DONE,
        "    if end is not None:\n        return inbox, Done()\n",
    ),
    Mutant(
        "a replay is begun once",
        _scope("t", refusals=1, replays=1, faults=1),
        _DONE,
        "    if end is not None and not message.ref.replay:\n        return inbox, Done()\n",
    ),
    Mutant(
        "the transcriber changes no outcome",
        _scope("a", refusals=1, cancels=1),
        "elif not entry.is_heard and entry.outcome is None:",
        "elif not entry.is_heard:",
    ),
    Mutant(
        "a message is heard once",
        _scope("a", refusals=1, replays=1, faults=1),
        "elif not entry.is_heard and entry.outcome is None:",
        "elif entry.outcome is None:",
    ),
    # -- a worker
    Mutant("ask is fenced", _scope("tt", faults=1), _ASK_FENCE, _ASK_FENCE.replace(" or turn.grant != grant", "")),
    Mutant(
        "ask is fenced by the time of the grant",
        _scope("tt", faults=2, kinds=_LAPSE_LATE),
        _ASK_FENCE,
        _ASK_FENCE.replace("turn.grant != grant", "turn.grant.owner != grant.owner"),
    ),
    Mutant(
        "ask looks whether it is to stop",
        _scope("t", cancels=1),
        "    if turn.is_interrupted:  # a",
        "    if False:  # a",
    ),
    Mutant(
        "ask takes a lapsed lease again",
        _scope("tt", faults=1),
        "    if _live_lease(inbox, now) is None:\n        inbox = _lease",
        "    if False:\n        inbox = _lease",
    ),
    Mutant(
        "later is fenced",
        _scope("t", errors=1, faults=1, fail=True),
        _LATER_FENCE,
        _LATER_FENCE.replace(" or turn.grant != grant", ""),
    ),
    Mutant(
        "later is fenced by the time of the grant",
        _scope("tt", errors=1, faults=2, kinds=_LAPSE_LATE),
        _LATER_FENCE,
        _LATER_FENCE.replace("turn.grant != grant", "turn.grant.owner != grant.owner"),
        is_slow=True,
    ),
    Mutant(
        "uncertainty is not taken back",
        _scope("t", errors=2),
        "is_uncertain=turn.is_uncertain or (turn.is_asked",
        "is_uncertain=(turn.is_asked",
    ),
    Mutant(
        "a timeout is uncertain",
        _scope("t", errors=1, fail=True),
        "(turn.is_asked and not is_sure and not _is_repeatable(inbox, turn))",
        "False",
    ),
    Mutant(
        "what was not asked is not uncertain",
        _scope("t", errors=1, faults=1, fail=True),
        "(turn.is_asked and not is_sure and",
        "(not is_sure and",
    ),
    Mutant(
        "a history update that timed out is not uncertain",
        _scope("h", errors=2, fail=True),
        " and not is_sure and not _is_repeatable(inbox, turn)),",
        " and not is_sure),",
    ),
    Mutant(
        "record is fenced",
        _scope("tt", faults=1, kinds=_only("lapse")),
        _RECORD_FENCE,
        _RECORD_FENCE.replace(" and turn.grant == grant", ""),
    ),
    Mutant(
        "record is fenced by the time of the grant",
        _scope("tt", faults=2, kinds=_LAPSE_LATE),
        _RECORD_FENCE,
        _RECORD_FENCE.replace("turn.grant == grant", "turn.grant.owner == grant.owner"),
    ),
    Mutant(
        "record is of the messages of the turn",
        _scope("tt", "mm", cancels=1),
        "        if set(turn.refs) != set(outcomes):\n            return inbox, Changed(turn.refs)\n",
        "",
    ),
    Mutant(
        "a void turn has no outcome",
        _scope("t", cancels=1),
        "    turn = _valid_turn(inbox)\n    if turn is not None and turn.grant == grant:",
        "    turn = inbox.turn\n    if turn is not None and turn.grant == grant:",
    ),
    Mutant(
        "renew takes the lease for the turn's owner only",
        _scope("t", faults=2, kinds=_LAPSE_LATE),
        "if not (has_turn if lease is None",
        "if not (True if lease is None",
    ),
    Mutant(
        "renew takes no lease of another",
        _scope("tt", faults=2, kinds=_LAPSE_LATE),
        "else lease.owner == grant.owner):",
        "else True):",
    ),
    Mutant(
        "who frees a lease has it",
        _scope("tt", faults=1),
        "inbox.lease is not None and inbox.lease.owner == owner else inbox",
        "inbox.lease is not None else inbox",
    ),
    # -- what is next
    Mutant(
        "one worker for each user",
        _scope("tt"),
        "    if lease is not None and lease.owner != owner:\n",
        "    if False:\n",
    ),
    Mutant(
        "a void turn is dropped", _scope("t", cancels=1), "    inbox = replace(inbox, turn=_valid_turn(inbox))\n", ""
    ),
    Mutant(
        "a turn of no message is void",
        _scope("t", cancels=1),
        "turn is not None and turn.refs and unanswered",
        "turn is not None and unanswered",
    ),
    Mutant(
        "a turn of an answered message is void",
        _scope("at", refusals=1, faults=1, kinds=_only("overdue")),
        "{entry.ref for entry in inbox.entries if entry.outcome is None}",
        "{entry.ref for entry in inbox.entries}",
    ),
    Mutant("an outcome is emitted", _scope("t"), "    if first.outcome is not None:\n", "    if False:\n"),
    Mutant(
        "who works, works on the first",
        _scope("tt"),
        "    first = inbox.entries[0]\n    if first.outcome",
        "    first = inbox.find(own.message_id) or inbox.entries[0]\n    if first.outcome",
    ),
    Mutant("a transcript is waited for", _scope("at"), "first.entered_at + rules.transcript_wait_ms - now", "0"),
    Mutant(
        "a quiet user is waited for",
        _scope("tt", "mm", is_quiet=True),
        '    if first.mode != "merge" or len(refs) == rules.turn_size:\n        return 0\n',
        "    return 0\n",
    ),
    Mutant(
        "a call that comes twice hands out once",
        _scope("t", faults=1),
        "    if turn.grant.owner != owner:  # else",
        "    if True:  # else",
    ),
    Mutant(
        "a turn waits for its time",
        _scope("t", errors=1),
        "        if turn.not_before > now:\n            return inbox, _wait(inbox, own, turn.not_before - now)\n",
        "",
    ),
    Mutant("a lost ask is counted", _scope("t", faults=1), "lost=turn.lost + 1, ", ""),
    Mutant(
        "a lost ask is uncertain",
        _scope("t", faults=1),
        "lost=turn.lost + 1, is_uncertain=is_uncertain)",
        "lost=turn.lost + 1)",
    ),
    Mutant(
        "a lost ask is counted once",
        _scope("t", faults=2, kinds=_only("crash")),
        "return replace(turn, is_asked=False, is_interrupted=False, lost",
        "return replace(turn, is_interrupted=False, lost",
    ),
    Mutant(
        "a history update whose worker died is not uncertain",
        _scope("h", faults=1, fail=True),
        "is_uncertain = not _is_repeatable(inbox, turn)",
        "is_uncertain = True",
    ),
    Mutant(
        "a lost ask is counted though the turn was to stop",
        _scope("tt", "mm", cancels=1, faults=1, kinds=_only("crash")),
        "    if turn.is_asked:  # its",
        "    if turn.is_asked and not turn.is_interrupted:  # its",
    ),
    Mutant(
        "a turn that was stopped goes on",
        _scope("tt", "mm", cancels=1),
        "    return replace(turn, is_interrupted=False)\n\n\ndef _reason",
        "    return turn\n\n\ndef _reason",
    ),
    Mutant(
        "nobody joins what may kill its workers",
        _scope("ttt", "mmm", cancels=1, faults=1, kinds=_only("crash")),
        _MAY_GROW,
        "    return not (turn.is_uncertain and rules.fail_if_uncertain)",
    ),
    Mutant(
        "nobody joins what may not be asked again",
        _scope("tt", "qi", errors=1, fail=True),
        _MAY_GROW,
        "    return not turn.lost",
    ),
    Mutant(
        "a turn that is formed anew loses nobody",
        _scope("ttt", "mmm", cancels=1, errors=1),
        "        if set(together) > set(turn.refs):\n",
        "        if True:\n",
    ),
    Mutant(
        "what nobody transcribed is not asked",
        _scope("at", faults=1, kinds=_only("ingress")),
        "    if not first.is_heard:\n",
        "    if False:\n",
    ),
    Mutant(
        "what kills its workers is given up",
        _scope("t", faults=2, kinds=_only("crash")),
        "    if turn.lost > rules.most_lost:\n",
        "    if False:\n",
    ),
    Mutant(
        "what is uncertain is not asked again, if it may not be",
        _scope("t", errors=1, fail=True),
        "    if turn.is_uncertain and rules.fail_if_uncertain:\n",
        "    if False:\n",
    ),
    Mutant(
        "outcomes are emitted up to the first message without one",
        _scope("ttt", cancels=1),
        "        if entry.outcome is None:\n            break\n",
        "        if entry.outcome is None:\n            continue\n",
    ),
    Mutant("an outcome names the one before it", _scope("tt", "mm"), "        after = max(after, entry.place)\n", ""),
    # -- who is asked together
    Mutant(
        "a turn waits for no transcript",
        _scope("ta", "mm"),
        "(_wants_to_join(entry, first) and entry.is_heard)",
        "_wants_to_join(entry, first)",
    ),
    Mutant(
        "a turn has no gap",
        _scope("tat", "mmm"),
        "            break\n        refs.append",
        "            continue\n        refs.append",
    ),
    Mutant(
        "one agent answers a turn",
        _scope("th", "mm"),
        _ALIKE,
        _ALIKE.replace('entry.group == first.group != "" and ', ""),
    ),
    Mutant("a history update is alone", _scope("hh", "mm"), _ALIKE, _ALIKE.replace(' != ""', "")),
    Mutant(
        "no replay joins a turn",
        _scope("tt", "mm", refusals=1, replays=1, faults=1, kinds=_only("away")),
        _ALIKE,
        _ALIKE.replace("not entry.ref.replay and ", ""),
    ),
    Mutant(
        "nobody joins a replay",
        _scope("tt", "mm", refusals=1, replays=1),
        _ALIKE,
        _ALIKE.replace(" and not first.ref.replay", ""),
    ),
    Mutant(
        "a message joins if it wants to",
        _scope("tt"),
        'entry.mode in ("merge", "interrupt") and entry.outcome is None',
        "entry.outcome is None",
    ),
    Mutant(
        "no answered message joins a turn",
        _scope("tt", "mm", cancels=1),
        'entry.mode in ("merge", "interrupt") and entry.outcome is None',
        'entry.mode in ("merge", "interrupt")',
    ),
    # -- the end
    Mutant(
        "the end of a run does not end its replay",
        _scope("t", refusals=1, replays=1, faults=2, kinds=_only("late", "dup", "crash")),
        "(entry is not None and entry.ref.replay > ref.replay) or ",
        "",
    ),
    Mutant(
        "the end of a replay stands",
        _scope("t", refusals=1, replays=1, faults=2, kinds=_only("late", "dup", "crash")),
        " or (end is not None and end > ref.replay):",
        ":",
    ),
    Mutant(
        "a delivery is acked once its own run has ended",
        _scope("t", refusals=1, replays=1, faults=1, kinds=_only("crash")),
        "    return end is not None and end >= ref.replay",
        "    return end is not None",
    ),
    Mutant("the number of the last outcome is known", _scope("tt"), ", last=max(inbox.last, entry.place))", ")"),
    Mutant(
        "the number of the last outcome never falls",
        _scope("ttt", refusals=1, replays=1),
        "last=max(inbox.last, entry.place)",
        "last=entry.place",
    ),
    Mutant(
        "who goes takes nothing with it",
        _scope("tt"),
        '    after, step = _next(inbox, own, "next", rules, now)\n',
        '    inbox, step = _next(inbox, own, "next", rules, now)\n    after = inbox\n',
    ),
)
