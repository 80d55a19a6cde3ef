"""The error types that tell the runtime what to do next: give up, try again, or come back later."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

__all__ = ["Deferred", "Permanent", "Retriable", "StageError", "Unavailable"]


class StageError(Exception):
    """The root of what a stage may raise on purpose.

    `error_code` reaches clients, metrics and dead letters, so it is stable; the text is for the operator and never
    holds a secret or a user's number.
    """

    error_code: ClassVar[str] = "INTERNAL_ERROR"
    evidence: object = None
    """What came from outside and could not be understood. It goes, masked, into the dead letter and nowhere else."""


class Permanent(StageError):
    """No repetition helps: the delivery is dead-lettered at once and the user gets an answer."""


class Retriable(StageError):
    """The same message may succeed later; `retry_after` is the provider's own wish, if it gave one."""

    def __init__(self, text: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Deferred(StageError):
    """Not now, and nobody's fault (a rate limit, a place in a queue): it waits `delay` and costs no attempt."""

    error_code = "DEFERRED"

    def __init__(self, text: str, *, delay: timedelta) -> None:
        super().__init__(text)
        self.delay = delay


class Unavailable(Deferred):
    """A part of our own (broker, Redis) is out of reach. Its outage is not the message's, so it costs no attempt."""

    error_code = "SERVICE_UNAVAILABLE"

    def __init__(self, text: str, *, delay: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(text, delay=delay)
