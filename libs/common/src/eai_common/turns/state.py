"""What is kept of one user's open messages, and what a call on it answers.

Times are whole milliseconds since 1970 by one clock, that of Redis; waits are relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "CANCELLED",
    "Accepted",
    "Answered",
    "CancelAnswer",
    "Cancelled",
    "Changed",
    "CurrentTurn",
    "Done",
    "Emission",
    "Emit",
    "Ended",
    "Entry",
    "Fail",
    "FailCode",
    "Grant",
    "HandOver",
    "Held",
    "Inbox",
    "Lease",
    "Lost",
    "Message",
    "Mode",
    "NOBODY",
    "Outcome",
    "Overdue",
    "Postponed",
    "Question",
    "Ref",
    "Rejected",
    "Rules",
    "Step",
    "Turn",
    "Unknown",
    "Wait",
]

Mode = Literal["queue", "merge", "interrupt", "reject"]
"""What a message does about those before it that have no answer yet.

`queue` waits for them. `merge` is answered together with those that are not in a turn yet. `interrupt` also stops the
turn before it, to be asked together with it. `reject` is not accepted beside them.
"""

FailCode = Literal["POISON_MESSAGE", "AGENT_OUTCOME_UNKNOWN", "TRANSCRIPTION_ERROR"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of the protocol. All processes must have the same."""

    fail_if_uncertain: bool = False
    most_lost: int = 3  # asks of one turn that ended with their worker; one more, and it is given up
    turn_size: int = 20  # messages that are answered together
    lease_ms: int = 10_000
    merge_window_ms: int = 0  # a first message of mode `merge` waits until none came for so long; 5 times that at most
    transcript_wait_ms: int = 15 * 60_000  # above the longest that a transcription takes, all attempts together


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A message, and which run of it: 0 is the first, a replay that an operator orders has a higher number."""

    message_id: str
    replay: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message as ingress, the transcriber or a delivery bring it to its user's inbox."""

    ref: Ref
    accepted_at: int
    body: bytes  # all that any worker needs to ask, to emit a failure or to dead-letter it; nothing here looks inside
    group: str  # who would answer it; "": nobody (a history update), so it merges with none, and repeats without harm
    mode: Mode = "queue"
    is_heard: bool = True  # False: a voice message without its transcript


Outcome = bytes
"""What a message ends with: the event that is published. Nothing here looks inside."""

CANCELLED: Outcome = b""
"""The outcome of a message that its client cancelled: who emits it makes the event, from the body."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An open message. `place` is its place among the user's messages, and the number of its outcome."""

    place: int
    ref: Ref
    entered_at: int
    body: bytes
    group: str
    mode: Mode
    is_heard: bool
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Who was given a turn, and when: the fence. A name is random and used once; `since` tells a late copy's grant."""

    owner: str
    since: int


NOBODY = Grant("", 0)


@dataclass(frozen=True, slots=True)
class CurrentTurn:
    """The one turn of a user: messages that are asked together, and what has become of that so far."""

    refs: tuple[Ref, ...]
    grant: Grant = NOBODY
    is_asked: bool = False  # the provider may be at it
    is_uncertain: bool = False  # it may have answered, and nobody knows what
    is_interrupted: bool = False  # its worker is to stop: the turn takes in others, or lost one that was cancelled
    attempts: int = 0
    lost: int = 0  # asks whose worker went away in the middle
    not_before: int = 0
    first_asked: int = 0
    errors: bytes = b""  # of its attempts, for the dead letter; nothing here looks inside


@dataclass(frozen=True, slots=True)
class Lease:
    """Evidence that whoever works on the inbox is alive."""

    owner: str
    until: int


@dataclass(frozen=True, slots=True)
class Inbox:
    """All that is known about one user. `ended` are the last runs of the messages that have ended."""

    entries: tuple[Entry, ...] = ()  # by place
    turn: CurrentTurn | None = None
    lease: Lease | None = None
    ended: tuple[Ref, ...] = ()  # by id
    last: int = 0  # the highest place that has left the inbox

    def find(self, message_id: str) -> Entry | None:
        """The open message of this id."""
        return next((entry for entry in self.entries if entry.ref.message_id == message_id), None)

    def ended_run(self, message_id: str) -> int | None:
        """The number of the message's last run that has ended, None if none has."""
        return next((ref.replay for ref in self.ended if ref.message_id == message_id), None)

    def with_entry(self, entry: Entry) -> Inbox:
        """With the entry in its place, instead of any other of its message."""
        rest = self.without(entry.ref.message_id).entries
        return replace(self, entries=tuple(sorted((*rest, entry), key=lambda e: (e.place, e.ref.message_id))))

    def without(self, message_id: str) -> Inbox:
        """Without the open message of this id."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.ref.message_id != message_id))

    def with_end(self, ref: Ref) -> Inbox:
        """With this run as the last of its message that has ended."""
        return replace(self, ended=tuple(sorted((*self.without_end(ref.message_id).ended, ref))))

    def without_end(self, message_id: str) -> Inbox:
        """As if no run of the message had ended."""
        return replace(self, ended=tuple(ref for ref in self.ended if ref.message_id != message_id))


@dataclass(frozen=True, slots=True)
class Question:
    """One message of a turn."""

    ref: Ref
    body: bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """Ask these messages together: `ask` right before, then `record` or `later`."""

    grant: Grant
    questions: tuple[Question, ...]
    attempts: int
    lost: int  # above 0: it may be what kills its workers
    is_uncertain: bool
    errors: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """Do not ask these messages: `record` this failure for the last of them; the others are merged into it."""

    grant: Grant
    questions: tuple[Question, ...]
    code: FailCode
    errors: bytes


@dataclass(frozen=True, slots=True)
class Emission:
    """One outcome to be published. Whoever stores it waits for the one before it, `after` (0: for none)."""

    ref: Ref
    outcome: Outcome
    body: bytes  # for the dead letter of a failure, and for the event of a cancellation
    number: int  # higher for each message of the user
    after: int


@dataclass(frozen=True, slots=True)
class Emit:
    """Publish these in order, each confirmed; then `emitted`. To publish one twice does no harm."""

    owner: str
    emissions: tuple[Emission, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `delay_ms`, as far as is known now. `is_ended`: the delivery's own message has ended: ack.

    `rank` of the delivery's own message: 0 in the turn or the first, 1 the first after that, and so on.
    """

    delay_ms: int
    rank: int = 0
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The delivery's own message has ended, and there is nothing else to do: ack."""


Step = Turn | Fail | Emit | Wait | Done
"""What a worker does next."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One of the turn's messages was cancelled meanwhile: `record` again, the outcomes of these."""

    refs: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    """There is something to do: publish one more delivery with this body, then ack."""

    body: bytes
    is_ended: bool


@dataclass(frozen=True, slots=True)
class Held:
    """The turn, or the lease, is the caller's. `is_interrupted`: do not ask; if asked, stop it if the provider can."""

    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """It is no longer the caller's: back to `begin`, under a new name."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """The turn waits, without a worker."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """The turn has been tried for long enough, and others wait behind it: `record` the error instead."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message has its place. `has_outcome`: since long, and there is nothing left to find out about it."""

    has_outcome: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The user has a message without an answer, this one, and the new message does not want to come beside it."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The message was accepted before, and has ended."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The message will end as cancelled. One more delivery with this body makes that soon."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """Too late: the message has its outcome, or has ended."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such message: it was never accepted, ended long ago, or was accepted while Redis was away."""


CancelAnswer = Cancelled | Answered | Unknown
