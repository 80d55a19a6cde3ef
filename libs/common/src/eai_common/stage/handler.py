"""The contract of a stage's handler: what it is called with, and how it is bound to an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, cast

from eai_common.clock import Clock, Deadline
from eai_common.messages import Event
from eai_common.store import FailedAttempt

__all__ = ["Attempt", "EventHandler", "Handle", "ProgressLog", "StageContext", "handler_for"]

EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a delivery, as the retry policy sees it."""

    number: int  # 1 is the first delivery
    waited: timedelta = timedelta()  # in the delay ladder, all attempts together


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a handler gets beside the event; one for each delivery.

    `deadline` is the only timeout there is: pass it on to every call.
    """

    deadline: Deadline
    attempt: Attempt
    clock: Clock


Handle = Callable[[Event, StageContext], Awaitable[Event | None]]


@dataclass(frozen=True, slots=True)
class EventHandler:
    """Which function handles which event; the stage emits what it returns. Made by `handler_for`."""

    event: type[Event]
    handle: Handle


def handler_for(event: type[EventT], handle: Callable[[EventT, StageContext], Awaitable[Event | None]]) -> EventHandler:
    """Bind `handle` to every `event` of its stage."""
    return EventHandler(event, cast(Handle, handle))  # the runtime passes it nothing but what it decoded as `event`


class ProgressLog(Protocol):
    """Where a stage writes its progress with a message: the task's status, unless the stage brings its own.

    A stage that works after the task's end brings its own, because the status must not change any more. Every method
    raises StoreUnavailable when Redis cannot be reached.
    """

    def note_started(self, message_id: str, *, stage: str, at: datetime, attempt: int) -> Awaitable[None]:
        """Write that `stage` has started an attempt."""

    def note_error(self, message_id: str, *, stage: str, at: datetime, tried: FailedAttempt) -> Awaitable[None]:
        """Write that an attempt in `stage` failed."""
