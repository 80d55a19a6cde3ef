"""What each call makes of a user's inbox. Pure: the state in, the state and the answer out.

The scripts of `scripts.py` do the same in Redis; the checker of `tests/model` takes these functions through every
interleaving. Why each rule is there: docs/decisions/0017. The rules of all calls:

- Fence. `ask`, `later`, `record` and `renew` name the grant of their turn, and change nothing if it is another's.
- Repeatable. A call whose answer was lost is sent again with the same names. Who has the turn or the lease under the
  fresh name that it brings gets the same answer again; a copy that arrives late does no harm.
- Void. A turn counts while each of its messages is open, in the same run and without an outcome; else it is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eai_common.turns.state import (
    CANCELLED,
    NOBODY,
    Accepted,
    Answered,
    CancelAnswer,
    Cancelled,
    Changed,
    CurrentTurn,
    Done,
    Emission,
    Emit,
    Ended,
    Entry,
    Fail,
    FailCode,
    Grant,
    HandOver,
    Held,
    Inbox,
    Lease,
    Lost,
    Message,
    Outcome,
    Overdue,
    Postponed,
    Question,
    Ref,
    Rejected,
    Rules,
    Step,
    Turn,
    Unknown,
    Wait,
)

__all__ = ["accept", "ask", "begin", "cancel", "emitted", "hand_over", "later", "record", "renew", "withdraw"]

_WINDOWS_AT_MOST = 5


# ---- ingress and transcriber ---------------------------------------------------------------------


def accept(
    inbox: Inbox, message: Message, *, is_late: bool = False, rules: Rules, now: int
) -> tuple[Inbox, Accepted | Rejected | Ended]:
    """Give a message its place, behind all others; nothing if it has one, or has ended. A replay enters by `begin`.

    `is_late`: by the transcriber, which takes it up. What Redis forgot goes back to where it was.
    """
    end = inbox.ended_run(message.ref.message_id)
    if end is not None and message.ref.replay <= end:
        return inbox, Ended()
    entry = inbox.find(message.ref.message_id)
    if entry is not None or message.ref.replay:
        return inbox, Accepted(has_outcome=entry is not None and entry.outcome is not None)
    unanswered = next((entry for entry in inbox.entries if entry.outcome is None), None)
    if message.mode == "reject" and unanswered is not None and not is_late:
        return inbox, Rejected(unanswered.ref.message_id)
    last = max(inbox.last, inbox.entries[-1].place if inbox.entries else 0)
    place = message.accepted_at if is_late else max(message.accepted_at, last + 1)
    return _enter(inbox, message, place, rules, now), Accepted()


def withdraw(inbox: Inbox, message_id: str) -> Inbox:
    """Take out a message that was not published. If it was after all, its delivery enters it again."""
    entry = inbox.find(message_id)
    if entry is None or entry.outcome is not None or entry.ref.replay or _is_in_turn(inbox, entry.ref):
        return inbox
    return inbox.without(message_id)


def cancel(inbox: Inbox, message_id: str) -> tuple[Inbox, CancelAnswer]:
    """End a message that has no answer yet. If it is being asked, its worker is to stop; others of its turn go on."""
    entry = inbox.find(message_id)
    if entry is None:
        return inbox, Unknown() if inbox.ended_run(message_id) is None else Answered()
    if entry.outcome is not None:
        return inbox, Cancelled(entry.body) if entry.outcome == CANCELLED else Answered()
    turn = inbox.turn
    inbox = inbox.with_entry(replace(entry, outcome=CANCELLED))
    if turn is not None and entry.ref in turn.refs:
        inbox = _stop(inbox, replace(turn, refs=tuple(ref for ref in turn.refs if ref != entry.ref)))
    return inbox, Cancelled(entry.body)


# ---- a delivery at work --------------------------------------------------------------------------


def begin(
    inbox: Inbox, message: Message, owner: str, *, failure: Outcome | None = None, rules: Rules, now: int
) -> tuple[Inbox, Step]:
    """See to the delivery's own message, then say what is to be done. `failure` is the transcriber's."""
    end = inbox.ended_run(message.ref.message_id)
    if end is not None and message.ref.replay <= end:
        return inbox, Done()
    entry = inbox.find(message.ref.message_id)
    if entry is None:
        inbox = inbox.without_end(message.ref.message_id)
        inbox = _enter(inbox, message, message.accepted_at, rules, now, failure)
    elif not entry.is_heard and entry.outcome is None:
        inbox = _hear(inbox, entry, message, failure, rules)
    return _next(inbox, message.ref, owner, rules, now)


def ask(inbox: Inbox, grant: Grant, attempt: int, *, rules: Rules, now: int) -> tuple[Inbox, Held | Lost]:
    """The provider is about to be asked, for the `attempt`-th time; not if the turn is found to be interrupted."""
    turn = inbox.turn
    if turn is None or turn.grant != grant:
        return inbox, Lost()
    if turn.is_interrupted:  # a copy of this call came before, and then a message that stops the turn
        return inbox, Held(is_interrupted=True)
    asked = replace(turn, is_asked=True, attempts=attempt, first_asked=turn.first_asked or now)
    inbox = replace(inbox, turn=asked)
    if _live_lease(inbox, now) is None:
        inbox = _lease(inbox, grant.owner, rules, now)
    return inbox, Held()


def later(
    inbox: Inbox,
    grant: Grant,
    *,
    delay_ms: int,
    is_sure: bool,
    attempts: int,
    errors: bytes,
    give_up_after_ms: int | None = None,
    now: int,
) -> tuple[Inbox, Postponed | Overdue | Lost]:
    """Put the turn off. `is_sure`: nothing came of it. `attempts` counts those that were used up so far.

    `give_up_after_ms`: not if it was first asked so long ago, and others wait behind it.
    """
    turn = inbox.turn
    if turn is None or turn.grant != grant:
        return _free(inbox, grant.owner), Lost()
    is_overdue = give_up_after_ms is not None and turn.first_asked and turn.first_asked + give_up_after_ms <= now
    if is_overdue and any(entry.outcome is None and entry.ref not in turn.refs for entry in inbox.entries):
        return inbox, Overdue()
    turn = replace(
        turn,
        grant=NOBODY,
        is_asked=False,
        is_uncertain=turn.is_uncertain or (turn.is_asked and not is_sure and not _is_repeatable(inbox, turn)),
        attempts=attempts,
        not_before=now + delay_ms,
        errors=errors,
    )
    return _free(replace(inbox, turn=turn), grant.owner), Postponed()


def record(
    inbox: Inbox,
    grant: Grant,
    outcomes: Mapping[Ref, Outcome],
    own: Ref,
    fresh: str,
    *,
    rules: Rules,
    now: int,
) -> tuple[Inbox, Step | Changed]:
    """Write down an outcome for each message of the turn, if it is the caller's; then say what is to be done.

    `own` is the delivery's own message, `fresh` a new name.
    """
    turn = _valid_turn(inbox)
    if turn is not None and turn.grant == grant:
        if set(turn.refs) != set(outcomes):
            return inbox, Changed(turn.refs)
        for entry in inbox.entries:
            if entry.ref in outcomes:
                inbox = inbox.with_entry(replace(entry, outcome=outcomes[entry.ref]))
        inbox = replace(inbox, turn=None)
    return _next(_free(inbox, grant.owner), own, fresh, rules, now)


def emitted(
    inbox: Inbox, owner: str, refs: Sequence[Ref], own: Ref, fresh: str, *, rules: Rules, now: int
) -> tuple[Inbox, Step]:
    """These outcomes were published and confirmed, so the messages have ended; then say what is to be done."""
    return _next(_leave(inbox, owner, refs), own, fresh, rules, now)


def hand_over(
    inbox: Inbox, owner: str, refs: Sequence[Ref], own: Ref, *, rules: Rules, now: int
) -> tuple[Inbox, HandOver | Wait | Done]:
    """As `emitted`, by a delivery that does not go on: what is to be done is for another."""
    inbox = _leave(inbox, owner, refs)
    after, step = _next(inbox, own, "next", rules, now)
    if isinstance(step, Wait | Done):
        return inbox, step
    return inbox, HandOver(after.entries[0].body, _has_ended(inbox, own))


def renew(inbox: Inbox, grant: Grant, *, rules: Rules, now: int) -> tuple[Inbox, Held | Lost]:
    """The worker is alive. A lease that lapsed is taken again if nobody else has the turn."""
    turn, lease = inbox.turn, _live_lease(inbox, now)
    has_turn = turn is not None and turn.grant == grant
    if not (has_turn if lease is None else lease.owner == grant.owner):
        return inbox, Lost()
    is_interrupted = has_turn and turn is not None and turn.is_interrupted
    return _lease(inbox, grant.owner, rules, now), Held(is_interrupted)


# ---- what comes next -----------------------------------------------------------------------------


def _next(inbox: Inbox, own: Ref, owner: str, rules: Rules, now: int) -> tuple[Inbox, Step]:
    """Take the user's place, under this name, and say what is to be done; or say wait."""
    lease = _live_lease(inbox, now)
    if lease is not None and lease.owner != owner:
        return inbox, _wait(inbox, own, lease.until - now)
    inbox = replace(inbox, turn=_valid_turn(inbox))
    if inbox.turn is not None:
        return _hand_out(inbox, inbox.turn, own, owner, rules, now)
    if not inbox.entries:
        return inbox, Done() if _has_ended(inbox, own) else Wait(0)
    first = inbox.entries[0]
    if first.outcome is not None:
        return _lease(inbox, owner, rules, now), Emit(owner, _emissions(inbox, rules))
    if first.is_heard:
        refs = _together(inbox, first, rules)
        wait_ms = _quiet_at(inbox, refs, rules) - now
    else:
        refs = (first.ref,)
        wait_ms = first.entered_at + rules.transcript_wait_ms - now
    if wait_ms > 0:
        return inbox, _wait(inbox, own, wait_ms)
    return _hand_out(inbox, CurrentTurn(refs), own, owner, rules, now)


def _hand_out(
    inbox: Inbox, turn: CurrentTurn, own: Ref, owner: str, rules: Rules, now: int
) -> tuple[Inbox, Turn | Fail | Wait]:
    """The turn and the lease become the owner's, unless the turn waits."""
    if turn.grant.owner != owner:  # else it is the same call again, and gets the same answer
        if turn.not_before > now:
            return inbox, _wait(inbox, own, turn.not_before - now)
        turn = replace(_taken_over(inbox, turn, rules), grant=Grant(owner, now))
    inbox = _lease(replace(inbox, turn=turn), owner, rules, now)
    entries = [entry for ref in turn.refs if (entry := inbox.find(ref.message_id)) is not None]
    questions = tuple(Question(entry.ref, entry.body) for entry in entries)
    code = _reason_to_fail(turn, entries[0], rules)
    if code is not None:
        return inbox, Fail(turn.grant, questions, code, turn.errors)
    return inbox, Turn(turn.grant, questions, turn.attempts, turn.lost, turn.is_uncertain, turn.errors)


def _taken_over(inbox: Inbox, turn: CurrentTurn, rules: Rules) -> CurrentTurn:
    """The turn in new hands: a worker that went away in the middle is counted; an interrupted turn takes in others."""
    if turn.is_asked:  # its worker is gone
        is_uncertain = not _is_repeatable(inbox, turn)
        return replace(turn, is_asked=False, is_interrupted=False, lost=turn.lost + 1, is_uncertain=is_uncertain)
    if turn.is_interrupted and _may_grow(turn, rules) and (first := inbox.find(turn.refs[0].message_id)) is not None:
        together = _together(inbox, first, rules)
        if set(together) > set(turn.refs):
            turn = replace(turn, refs=together, attempts=0, first_asked=0, errors=b"")
    return replace(turn, is_interrupted=False)


def _reason_to_fail(turn: CurrentTurn, first: Entry, rules: Rules) -> FailCode | None:
    if not first.is_heard:
        return "TRANSCRIPTION_ERROR"
    if turn.lost > rules.most_lost:
        return "POISON_MESSAGE"
    if turn.is_uncertain and rules.fail_if_uncertain:
        return "AGENT_OUTCOME_UNKNOWN"
    return None


def _emissions(inbox: Inbox, rules: Rules) -> tuple[Emission, ...]:
    """The outcomes up to the first message without one."""
    emissions: list[Emission] = []
    after = inbox.last
    for entry in inbox.entries[: rules.turn_size]:
        if entry.outcome is None:
            break
        emissions.append(Emission(entry.ref, entry.outcome, entry.body, entry.place, after))
        after = max(after, entry.place)
    return tuple(emissions)


def _together(inbox: Inbox, first: Entry, rules: Rules) -> tuple[Ref, ...]:
    """The messages that are asked with this one: those after it that want to be, up to one that cannot."""
    refs = [first.ref]
    for entry in inbox.entries[inbox.entries.index(first) + 1 :]:
        if len(refs) == rules.turn_size or not (_wants_to_join(entry, first) and entry.is_heard):
            break
        refs.append(entry.ref)
    return tuple(refs)


def _wants_to_join(entry: Entry, first: Entry) -> bool:
    """A history update and a replay go alone."""
    is_alike = entry.group == first.group != "" and not entry.ref.replay and not first.ref.replay
    return is_alike and entry.mode in ("merge", "interrupt") and entry.outcome is None


def _quiet_at(inbox: Inbox, refs: Sequence[Ref], rules: Rules) -> int:
    """Until when a turn of these, the first ones, waits for more messages."""
    first, last = inbox.entries[0], inbox.entries[len(refs) - 1]
    if first.mode != "merge" or len(refs) == rules.turn_size:
        return 0
    longest = first.entered_at + _WINDOWS_AT_MOST * rules.merge_window_ms
    if len(refs) == len(inbox.entries):
        return min(last.entered_at + rules.merge_window_ms, longest)
    return longest if _wants_to_join(inbox.entries[len(refs)], first) else 0  # then it only lacks its transcript


def _wait(inbox: Inbox, own: Ref, delay_ms: int) -> Wait:
    if _has_ended(inbox, own):
        return Wait(delay_ms, is_ended=True)
    in_turn = inbox.turn.refs if inbox.turn is not None else ()
    if own in in_turn:
        return Wait(delay_ms)
    others = [entry.ref.message_id for entry in inbox.entries if entry.ref not in in_turn]
    rank = others.index(own.message_id) if own.message_id in others else 0
    return Wait(delay_ms, rank=rank + bool(in_turn))


# ---- parts ---------------------------------------------------------------------------------------


def _enter(inbox: Inbox, message: Message, place: int, rules: Rules, now: int, failure: Outcome | None = None) -> Inbox:
    entry = Entry(
        place=place,
        ref=message.ref,
        entered_at=now,
        body=message.body,
        group=message.group,
        mode=message.mode,
        is_heard=message.is_heard,
        outcome=failure,
    )
    return _interrupt(inbox.with_entry(entry), entry, rules)


def _hear(inbox: Inbox, entry: Entry, message: Message, failure: Outcome | None, rules: Rules) -> Inbox:
    """The transcriber is done with the message: take its text, or its failure."""
    if failure is not None:
        return inbox.with_entry(replace(entry, outcome=failure))
    heard = replace(entry, body=message.body, is_heard=True)
    return _interrupt(inbox.with_entry(heard), heard, rules)


def _interrupt(inbox: Inbox, entry: Entry, rules: Rules) -> Inbox:
    """Stop the turn before a message that wants so, if that can be asked together with it."""
    turn = _valid_turn(inbox)
    if entry.mode != "interrupt" or turn is None or turn.lost:
        return inbox
    first = inbox.find(turn.refs[0].message_id)
    if first is None or entry.ref not in _together(inbox, first, rules):
        return inbox
    return _stop(inbox, turn)


def _stop(inbox: Inbox, turn: CurrentTurn) -> Inbox:
    """The turn's worker learns by `ask` or `renew` that it is to stop."""
    return replace(inbox, turn=replace(turn, is_interrupted=True))


def _may_grow(turn: CurrentTurn, rules: Rules) -> bool:
    """Whether others may share the turn's fate: not if it may be what kills its workers, or cannot be asked again."""
    return not turn.lost and not (turn.is_uncertain and rules.fail_if_uncertain)


def _valid_turn(inbox: Inbox) -> CurrentTurn | None:
    turn = inbox.turn
    unanswered = {entry.ref for entry in inbox.entries if entry.outcome is None}
    return turn if turn is not None and turn.refs and unanswered.issuperset(turn.refs) else None


def _is_repeatable(inbox: Inbox, turn: CurrentTurn) -> bool:
    """Whether it does no harm to ask twice."""
    return all(entry.group == "" for entry in inbox.entries if entry.ref in turn.refs)


def _leave(inbox: Inbox, owner: str, refs: Sequence[Ref]) -> Inbox:
    for ref in refs:
        entry, end = inbox.find(ref.message_id), inbox.ended_run(ref.message_id)
        if (entry is not None and entry.ref.replay > ref.replay) or (end is not None and end > ref.replay):
            continue  # replayed meanwhile
        if entry is not None:
            inbox = replace(inbox.without(ref.message_id), last=max(inbox.last, entry.place))
        inbox = inbox.with_end(ref)
    return _free(inbox, owner)


def _has_ended(inbox: Inbox, ref: Ref) -> bool:
    end = inbox.ended_run(ref.message_id)
    return end is not None and end >= ref.replay


def _is_in_turn(inbox: Inbox, ref: Ref) -> bool:
    return inbox.turn is not None and ref in inbox.turn.refs


def _live_lease(inbox: Inbox, now: int) -> Lease | None:
    return inbox.lease if inbox.lease is not None and inbox.lease.until > now else None


def _lease(inbox: Inbox, owner: str, rules: Rules, now: int) -> Inbox:
    return replace(inbox, lease=Lease(owner, now + rules.lease_ms))


def _free(inbox: Inbox, owner: str) -> Inbox:
    return replace(inbox, lease=None) if inbox.lease is not None and inbox.lease.owner == owner else inbox
