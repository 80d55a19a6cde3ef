"""The inboxes of all users in Redis: each call of `machine.py`, in one round trip that it shares with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from eai_common.store.client import RedisClient
from eai_common.store.commands import Argument, Reply, Request, Script
from eai_common.store.keys import user_key
from eai_common.turns import scripts
from eai_common.turns.state import (
    Accepted,
    Answered,
    CancelAnswer,
    Cancelled,
    Changed,
    Done,
    Emission,
    Emit,
    Ended,
    Fail,
    FailCode,
    Grant,
    HandOver,
    Held,
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

__all__ = ["InboxStore", "unix_ms"]

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_Words = list[bytes]


def unix_ms(at: datetime) -> int:
    """A time as the inbox counts it."""
    return (at - _EPOCH) // _MILLISECOND


class InboxStore:
    """The inboxes. What a method gives is a request, to be awaited: it raises StoreUnavailable.

    One that raised, or was cancelled, may have been carried out all the same: send it again with the same names until
    an answer comes. Names (`owner`, `fresh`) are random, and never used for another call.
    """

    def __init__(self, redis: RedisClient, rules: Rules, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = ttl // _MILLISECOND
        numbers = (
            int(rules.fail_if_uncertain),
            rules.most_lost,
            rules.turn_size,
            rules.lease_ms,
            rules.merge_window_ms,
            rules.transcript_wait_ms,
        )
        self._rules = " ".join(map(str, numbers))

    # -- for ingress and the transcriber

    def accept(
        self, user_number: str, message: Message, *, is_late: bool = False
    ) -> Request[Accepted | Rejected | Ended]:
        """Give a message its place, behind all others; `is_late` by the transcriber: by its time of acceptance."""
        ends = [message.ref.message_id]
        return self._call(scripts.ACCEPT, user_number, ends, (*_told(message), int(is_late)), _accepted)

    def withdraw(self, user_number: str, message_id: str) -> Request[None]:
        """Take out a message that was not published."""
        return self._call(scripts.WITHDRAW, user_number, (), (message_id,), lambda _: None)

    def cancel(self, user_number: str, message_id: str) -> Request[CancelAnswer]:
        """End a message that has no answer yet. After Cancelled, publish one more delivery with its body."""
        return self._call(scripts.CANCEL, user_number, [message_id], (message_id,), _cancelled)

    # -- for a delivery at work

    def begin(self, user_number: str, message: Message, owner: str, *, failure: Outcome | None = None) -> Request[Step]:
        """See to the delivery's own message; gives what is to be done. `failure` is the transcriber's."""
        args = (*_told(message), owner, int(failure is not None), failure or b"")
        return self._step(scripts.BEGIN, user_number, [message.ref.message_id], args, owner)

    def ask(self, user_number: str, grant: Grant, attempt: int) -> Request[Held | Lost]:
        """The provider is about to be asked. Held(is_interrupted=True): do not ask, but `later`, sure and at once."""
        return self._call(scripts.ASK, user_number, (), (grant.owner, grant.since, attempt), _held)

    def later(
        self,
        user_number: str,
        grant: Grant,
        *,
        delay: timedelta,
        is_sure: bool,
        attempts: int,
        errors: bytes,
        give_up_after: timedelta | None = None,
    ) -> Request[Postponed | Overdue | Lost]:
        """Put the turn off; see `machine.later`."""
        give_up_ms = -1 if give_up_after is None else give_up_after // _MILLISECOND
        delay_ms = delay // _MILLISECOND
        args = (grant.owner, grant.since, delay_ms, int(is_sure), attempts, errors, give_up_ms)
        return self._call(scripts.LATER, user_number, (), args, _put_off)

    def record(
        self, user_number: str, grant: Grant, outcomes: Mapping[Ref, Outcome], own: Ref, fresh: str
    ) -> Request[Step | Changed]:
        """Write down an outcome for each message of the turn; gives what is to be done. `own` is the delivery's."""
        told = [word for ref, outcome in outcomes.items() for word in (_written(ref), outcome)]
        args = (grant.owner, grant.since, _written(own), fresh, *told)
        return self._call(scripts.RECORD, user_number, [own.message_id], args, lambda words: _changed(words, fresh))

    def emitted(self, user_number: str, owner: str, refs: Sequence[Ref], own: Ref, fresh: str) -> Request[Step]:
        """These outcomes were published and confirmed; gives what is to be done."""
        ends = [own.message_id, *(ref.message_id for ref in refs)]
        args = (owner, _written(own), fresh, *map(_written, refs))
        return self._step(scripts.EMITTED, user_number, ends, args, fresh)

    def hand_over(self, user_number: str, owner: str, refs: Sequence[Ref], own: Ref) -> Request[HandOver | Wait | Done]:
        """As `emitted`, by a delivery that does not go on."""
        ends = [own.message_id, *(ref.message_id for ref in refs)]
        args = (owner, _written(own), *map(_written, refs))
        return self._call(scripts.HAND_OVER, user_number, ends, args, _handed_over)

    def renew(self, user_number: str, grant: Grant) -> Request[Held | Lost]:
        """The worker is alive. Of all workers of a process together: `together_all`."""
        return self._call(scripts.RENEW, user_number, (), (grant.owner, grant.since), _held)

    # -- parts

    def _step(
        self, script: Script, user_number: str, ends: Iterable[str], args: Iterable[Argument], owner: str
    ) -> Request[Step]:
        return self._call(script, user_number, ends, args, lambda words: _step(words, owner))

    def _call(
        self,
        script: Script,
        user_number: str,
        ends: Iterable[str],
        args: Iterable[Argument],
        read: Callable[[_Words], T],
    ) -> Request[T]:
        keys = [user_key("inbox", user_number), *(f"{user_key('ended', user_number)}:{one}" for one in ends)]
        called = script.call(keys, (self._ttl_ms, self._rules, *args))
        return self._redis.request(called, decode=lambda replies: read(_words(replies)))


# ---- to and from Redis ---------------------------------------------------------------------------


def _told(message: Message) -> tuple[Argument, ...]:
    heard, replay = int(message.is_heard), message.ref.replay
    return (message.ref.message_id, message.accepted_at, heard, message.mode, message.group, message.body, replay)


def _words(replies: Sequence[Reply]) -> _Words:
    (reply,) = replies
    assert isinstance(reply, list)  # as every script returns
    return [word if isinstance(word, bytes) else b"%d" % cast(int, word) for word in reply]


def _written(ref: Ref) -> str:
    return f"{ref.message_id}/{ref.replay}"


def _ref(word: bytes) -> Ref:
    message_id, _, replay = word.decode().rpartition("/")
    return Ref(message_id, int(replay))


def _step(words: _Words, owner: str) -> Step:
    what, *rest = words
    if what == b"turn":
        since, attempts, lost, is_uncertain, errors, *told = rest
        grant = Grant(owner, int(since))
        return Turn(grant, _questions(told), int(attempts), int(lost), is_uncertain == b"1", errors)
    if what == b"fail":
        since, code, errors, *told = rest
        return Fail(Grant(owner, int(since)), _questions(told), cast(FailCode, code.decode()), errors)
    if what == b"emit":
        return Emit(owner, tuple(_emission(rest[at : at + 5]) for at in range(0, len(rest), 5)))
    return _waits(words)


def _questions(words: _Words) -> tuple[Question, ...]:
    return tuple(Question(_ref(ref), body) for ref, body in zip(words[::2], words[1::2], strict=True))


def _emission(words: _Words) -> Emission:
    ref, outcome, body, number, after = words
    return Emission(_ref(ref), outcome, body, int(number), int(after))


def _waits(words: _Words) -> Wait | Done:
    if words == [b"done"]:
        return Done()
    _, delay_ms, rank, is_ended = words
    return Wait(int(delay_ms), int(rank), is_ended == b"1")


def _changed(words: _Words, owner: str) -> Step | Changed:
    return Changed(tuple(map(_ref, words[1:]))) if words[0] == b"changed" else _step(words, owner)


def _handed_over(words: _Words) -> HandOver | Wait | Done:
    return HandOver(words[1], words[2] == b"1") if words[0] == b"hand over" else _waits(words)


def _held(words: _Words) -> Held | Lost:
    return Held(words[1] == b"1") if words[0] == b"held" else Lost()


def _put_off(words: _Words) -> Postponed | Overdue | Lost:
    if words == [b"postponed"]:
        return Postponed()
    return Overdue() if words == [b"overdue"] else Lost()


def _accepted(words: _Words) -> Accepted | Rejected | Ended:
    if words[0] == b"accepted":
        return Accepted(words[1] == b"1")
    return Rejected(words[1].decode()) if words[0] == b"rejected" else Ended()


def _cancelled(words: _Words) -> CancelAnswer:
    if words[0] == b"cancelled":
        return Cancelled(words[1])
    return Answered() if words[0] == b"answered" else Unknown()
