"""One delivery on its way through the runtime: what is known of it, what becomes of it, and what its headers carry.

A wait in the delay ladder lasts as long as it was meant to. The ladder has few rungs, and rounding up would turn 61 s
into 120 s and undo a jitter of seconds. So a wait that no rung fits goes over shorter rungs first; a header carries
what is left of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from eai_common.broker import Delivery, Headers
from eai_common.errors import Deferred, StageError
from eai_common.messages import Event, rfc3339
from eai_common.stage.handler import Attempt

__all__ = [
    "Defer",
    "Failed",
    "HandBack",
    "Done",
    "GiveUp",
    "Postpone",
    "Process",
    "Retry",
    "RoutineWait",
    "StillWaiting",
    "Verdict",
    "Work",
    "add_to_history",
    "attempt_headers",
    "headers_after_deferral",
    "headers_after_failure",
    "journey_headers",
    "next_hop",
    "read_attempt",
    "read_wait_left",
    "with_journey",
    "with_wait_left",
]

EventT = TypeVar("EventT", bound=Event)

_ATTEMPT = "x-eai-attempt"
_WAITED_MS = "x-eai-waited-ms"
_ERRORS = "x-eai-errors"
_WAIT_LEFT_MS = "x-eai-wait-left-ms"
_JOURNEY = {
    "x-eai-replay": "replay",
    "x-eai-outcome-number": "outcome_number",
    "x-eai-outcome-after": "outcome_after",
}
"""Headers that hold a field of the event: what is known only after the body was recorded, or by an operator."""
_ERRORS_KEPT = 5
_LONGEST_ERROR = 500

_MILLISECOND = timedelta(milliseconds=1)
_CLOSE_ENOUGH_RATIO = 0.1
_CLOSE_ENOUGH = timedelta(seconds=1)
_NEGLIGIBLE = timedelta(milliseconds=500)


class RoutineWait(Deferred):
    """A deferral that is part of normal operation, and not worth a line in the log."""


class StillWaiting(RoutineWait):
    """The delivery is between two hops of its wait."""

    error_code = "STILL_WAITING"


@dataclass(slots=True)
class Work:
    """A delivery, and what the steps have found out about it."""

    delivery: Delivery
    attempt: Attempt
    owner: str  # unique to this delivery: the owner of its lease
    event: Event | None = None  # None until it is decoded
    is_repeated: bool = False  # its outcome was on record

    @property
    def decoded(self) -> Event:
        """The event. AssertionError before the step `read`."""
        if self.event is None:
            raise AssertionError("the step needs the event, but comes before `read`")
        return self.event

    @property
    def event_name(self) -> str:
        """A bounded metric label."""
        return self.event.name if self.event is not None else "undecoded"

    @property
    def message_type(self) -> str:
        """A bounded metric label."""
        return self.event.message_type if self.event is not None else "unknown"

    @property
    def message_id(self) -> str | None:
        return self.event.message_id if self.event is not None else self.delivery.message_id


@dataclass(frozen=True, slots=True)
class Done:
    """Handled; `emit` is the event that follows, if one does."""

    emit: Event | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed and another may succeed."""

    error: StageError
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Defer:
    """Come again later; it was no attempt."""

    error: Deferred

    @property
    def delay(self) -> timedelta:
        return self.error.delay


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt: the user gets a failure, the operator a dead letter."""

    error: StageError


@dataclass(frozen=True, slots=True)
class Postpone:
    """The attempt failed and another may succeed; the stage itself keeps count of the attempts."""

    error: StageError
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Failed:
    """The message is given up, and the stage itself has told the user and the operator."""

    error: StageError


@dataclass(frozen=True, slots=True)
class HandBack:
    """This process stops: another replica gets the delivery, at once."""


Verdict = Done | Retry | Postpone | Defer | Failed | GiveUp | HandBack
Process = Callable[[Work], Coroutine[None, None, Verdict]]
"""Takes a delivery as far as a verdict."""


def read_attempt(headers: Headers) -> Attempt:
    """The attempt that a delivery with these headers is. Malformed headers count as a first attempt."""
    number = headers.get(_ATTEMPT)
    return Attempt(
        number=number if isinstance(number, int) and number > 0 else 1, waited=_read_duration(headers, _WAITED_MS)
    )


def add_to_history(
    history: Sequence[object], error: StageError, *, attempt: int, stage: str, at: datetime
) -> list[object]:
    """The last errors of a message, with one more failed attempt."""
    entry = {
        "attempt": attempt,
        "stage": stage,
        "at": rfc3339(at),
        "error_code": error.error_code,
        "error": str(error)[:_LONGEST_ERROR],
    }
    return [*history, entry][-_ERRORS_KEPT:]


def headers_after_failure(work: Work, error: StageError, *, stage: str, at: datetime, delay: timedelta) -> Headers:
    """The headers for the next attempt, or the dead letter: the attempt counted, the error added to the history."""
    known = _read_errors(work.delivery.headers)
    history = add_to_history(known, error, attempt=work.attempt.number, stage=stage, at=at)
    return {
        **work.delivery.headers,
        _ATTEMPT: work.attempt.number + 1,
        _WAITED_MS: _milliseconds(work.attempt.waited + delay),
        _ERRORS: json.dumps(history, ensure_ascii=False),
    }


def headers_after_deferral(work: Work, delay: timedelta) -> Headers:
    """The headers after a wait that was no attempt."""
    return {**work.delivery.headers, _WAITED_MS: _milliseconds(work.attempt.waited + delay)}


def attempt_headers(number: int, errors: str) -> Headers:
    """The headers of a dead letter whose attempts were not counted in headers; `errors` is JSON."""
    return {_ATTEMPT: number, _ERRORS: errors}


def with_journey(event: EventT, headers: Headers) -> EventT:
    """The event with those of its fields that came in headers."""
    found = {field: headers[name] for name, field in _JOURNEY.items() if isinstance(headers.get(name), int)}
    return event.model_copy(update=found) if found else event


def journey_headers(*, replay: int = 0, outcome_number: int = 0, outcome_after: int = 0) -> Headers:
    """The headers of which `with_journey` makes these fields."""
    fields = {"replay": replay, "outcome_number": outcome_number, "outcome_after": outcome_after}
    return {name: fields[field] for name, field in _JOURNEY.items() if fields[field]}


def next_hop(wait: timedelta, ladder: Sequence[timedelta]) -> timedelta:
    """The rung to wait on next: the first that is no shorter if it is close enough, else the longest shorter one."""
    longer = [rung for rung in ladder if rung >= wait]
    shorter = [rung for rung in ladder if rung < wait]
    if not longer:
        return shorter[-1]
    is_close = longer[0] - wait <= max(_CLOSE_ENOUGH, wait * _CLOSE_ENOUGH_RATIO)
    return longer[0] if is_close or not shorter else shorter[-1]


def with_wait_left(headers: Headers, left: timedelta) -> Headers:
    """The headers of a delivery that must wait for `left` after its next hop."""
    others = {name: value for name, value in headers.items() if name != _WAIT_LEFT_MS}
    return {**others, _WAIT_LEFT_MS: left // _MILLISECOND} if left >= _NEGLIGIBLE else others


def read_wait_left(headers: Headers) -> timedelta:
    """How much longer a delivery with these headers must wait; zero if its wait is over or the header is malformed."""
    return _read_duration(headers, _WAIT_LEFT_MS)


def _read_duration(headers: Headers, name: str) -> timedelta:
    milliseconds = headers.get(name)
    return milliseconds * _MILLISECOND if isinstance(milliseconds, int) and milliseconds > 0 else timedelta()


def _read_errors(headers: Headers) -> list[object]:
    try:
        history = json.loads(str(headers.get(_ERRORS, "[]")))
    except ValueError:
        return []
    return history if isinstance(history, list) else []


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
