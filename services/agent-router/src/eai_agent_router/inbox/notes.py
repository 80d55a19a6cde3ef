"""What the inbox keeps of a turn's attempts, and of how a message ended. The scripts look into neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from eai_common.broker import DeadLetterReason
from eai_common.errors import StageError
from eai_common.messages import Event, encode
from eai_common.stage import add_to_history

__all__ = ["RecordedOutcome", "TurnNotes"]

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class TurnNotes:
    """How long a turn has waited, all attempts together, and its last errors."""

    waited: timedelta = timedelta()
    errors: Sequence[object] = ()

    def after(self, error: StageError, *, attempt: int, stage: str, at: datetime) -> TurnNotes:
        """With one more attempt that failed."""
        return replace(self, errors=add_to_history(self.errors, error, attempt=attempt, stage=stage, at=at))

    def waiting(self, delay: timedelta) -> TurnNotes:
        """With one more wait."""
        return replace(self, waited=self.waited + delay)

    def encode(self) -> bytes:
        return orjson.dumps({"waited_ms": self.waited // _MILLISECOND, "errors": list(self.errors)})

    @classmethod
    def decode(cls, notes: bytes) -> TurnNotes:
        """What `encode` gave; nothing for a turn without notes."""
        if not notes:
            return cls()
        fields = orjson.loads(notes)
        return cls(fields["waited_ms"] * _MILLISECOND, tuple(fields["errors"]))


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """An outcome: the event as it is published, and for what this stage gave up the reason of the dead letter."""

    event_name: str
    body: bytes
    reason: DeadLetterReason | None = None
    attempt: int = 0
    errors: Sequence[object] = ()

    @classmethod
    def of(
        cls, event: Event, reason: DeadLetterReason | None = None, *, attempt: int = 0, notes: TurnNotes | None = None
    ) -> RecordedOutcome:
        """The outcome that this event is. Raises ValueError if it cannot be encoded."""
        return cls(event.name, encode(event), reason, attempt, () if notes is None else notes.errors)

    def encode(self) -> bytes:
        """A line that describes the event, then the body."""
        head: dict[str, object] = {"event": self.event_name}
        if self.reason is not None:
            told = (self.reason.error_code, self.reason.error, self.reason.stage, self.reason.evidence)
            head |= {"reason": told, "attempt": self.attempt, "errors": list(self.errors)}
        return orjson.dumps(head) + b"\n" + self.body

    @classmethod
    def decode(cls, outcome: bytes) -> RecordedOutcome:
        """What `encode` gave."""
        head, _, body = outcome.partition(b"\n")
        fields = orjson.loads(head)
        reason = DeadLetterReason(*fields["reason"]) if "reason" in fields else None
        return cls(fields["event"], body, reason, fields.get("attempt", 0), fields.get("errors", ()))
