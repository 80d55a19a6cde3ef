"""One delivery on its way through the runtime, and what can become of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, cast

from eai_common.broker import Delivery, Headers
from eai_common.errors import Deferred, StageError
from eai_common.messages import Event, rfc3339
from eai_common.stage.context import Attempt, StageContext

__all__ = [
    "COPY",
    "Defer",
    "Done",
    "GiveUp",
    "On",
    "Retry",
    "Verdict",
    "Work",
    "as_first_copy",
    "attempt_of",
    "headers_after_deferral",
    "headers_after_failure",
    "on",
]

ATTEMPT = "x-eai-attempt"
WAITED_MS = "x-eai-waited-ms"
BEHIND_MS = "x-eai-behind-ms"
ERRORS = "x-eai-errors"
COPY = "x-eai-copy"
_WAITING = "waiting"
_ERRORS_KEPT = 5

EventT = TypeVar("EventT", bound=Event)


Handle = Callable[[Event, StageContext], Awaitable[Event | None]]


@dataclass(frozen=True, slots=True)
class On:
    """Which handler takes which event; what it returns is emitted. Made by `on`, which keeps the two in step."""

    event: type[Event]
    handle: Handle


def on(event: type[EventT], handle: Callable[[EventT, StageContext], Awaitable[Event | None]]) -> On:
    """Let `handle` take every `event`."""
    return On(event, cast(Handle, handle))  # the runtime hands it nothing but what was decoded as `event`


@dataclass(slots=True)
class Work:
    """A delivery, and what the steps have found out about it."""

    delivery: Delivery
    attempt: Attempt
    owner: str  # unique to this delivery: whose lease it is
    event: Event | None = None  # None until it is decoded
    lead_id: str | None = None  # of several messages that are handled as one `event`: the delivery's own
    along: tuple[Event, ...] = ()  # emitted together with what becomes of `event`: the ends of the others of them
    will_wait: bool = False  # behind another message of its user, where a second copy of it is kept
    is_spare: bool = False  # another copy of it ends the message: this one is only to be acked

    @property
    def event_name(self) -> str:
        """A bounded metric label."""
        return self.event.name if self.event is not None else "undecoded"

    @property
    def message_id(self) -> str | None:
        return self.event.message_id if self.event is not None else self.delivery.message_id

    @property
    def copy(self) -> str:
        """Which of the message's copies in the broker this is; empty for one that never had to wait."""
        return str(self.delivery.headers.get(COPY, ""))

    @property
    def waited_behind(self) -> timedelta:
        """How long it has waited for other messages of its user."""
        behind_ms = self.delivery.headers.get(BEHIND_MS)
        return timedelta(milliseconds=behind_ms if isinstance(behind_ms, int) and behind_ms > 0 else 0)

    @property
    def is_unworked_copy(self) -> bool:
        """Whether it is one of several copies, and nobody has worked on this one."""
        return bool(self.copy) and self.delivery.redeliveries == 0


@dataclass(frozen=True, slots=True)
class Done:
    """Handled; `emit` is the event that follows, if one does."""

    emit: Event | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The try failed and another may succeed."""

    error: StageError
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Defer:
    """Come again later; it was no try."""

    error: Deferred


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further try: tell the user, keep the dead letter."""

    error: StageError


Verdict = Done | Retry | Defer | GiveUp


def attempt_of(headers: Headers) -> Attempt:
    """The attempt that a delivery with these headers is. Headers that someone garbled count as a first attempt."""
    number, waited_ms = headers.get(ATTEMPT), headers.get(WAITED_MS)
    return Attempt(
        number=number if isinstance(number, int) and number > 0 else 1,
        waited=timedelta(milliseconds=waited_ms if isinstance(waited_ms, int) and waited_ms > 0 else 0),
    )


def headers_after_failure(work: Work, error: StageError, *, stage: str, at: datetime, delay: timedelta) -> Headers:
    """The delivery's headers for its next try, or its dead letter: one attempt more, the error added to its history."""
    history = [
        *_history(work.delivery.headers),
        {
            "attempt": work.attempt.number,
            "stage": stage,
            "at": rfc3339(at),
            "error_code": error.error_code,
            "error": str(error)[:500],
        },
    ]
    return {
        **work.delivery.headers,
        ATTEMPT: work.attempt.number + 1,
        WAITED_MS: _milliseconds(work.attempt.waited + delay),
        ERRORS: json.dumps(history[-_ERRORS_KEPT:], ensure_ascii=False),
    }


def headers_after_deferral(work: Work, delay: timedelta) -> Headers:
    """The delivery's headers after a wait that was no try. A wait for other messages is counted apart."""
    if work.will_wait:
        waited: dict[str, str | int] = {BEHIND_MS: _milliseconds(work.waited_behind + delay)}
        return {**work.delivery.headers, COPY: work.copy or _WAITING, **waited}
    return {**work.delivery.headers, WAITED_MS: _milliseconds(work.attempt.waited + delay)}


def as_first_copy(headers: Headers) -> Headers:
    """The headers of a message that is replayed one day, when its other copies are long gone."""
    return {name: value for name, value in headers.items() if name != COPY}


def _history(headers: Headers) -> list[object]:
    try:
        history = json.loads(str(headers.get(ERRORS, "[]")))
    except ValueError:
        return []
    return history if isinstance(history, list) else []


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
