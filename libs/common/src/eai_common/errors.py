"""The errors that tell the runtime what to do next: give up, retry, or defer."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

__all__ = ["Deferred", "Permanent", "Retriable", "StageError", "Unavailable"]


class StageError(Exception):
    """The base of all errors that a stage raises on purpose.

    `error_code` reaches clients, metrics and dead letters, so it is stable. The text is for the operator, and never
    contains a secret or a user's number.
    """

    error_code: ClassVar[str] = "INTERNAL_ERROR"
    evidence: object = None
    """What an outside service answered and we could not read. It goes into the dead letter only, redacted."""


class Permanent(StageError):
    """A retry cannot help: the delivery is dead-lettered at once and the user gets a failure."""


class Retriable(StageError):
    """A retry may succeed; `retry_after` is the wait that the provider asked for, if any."""

    def __init__(self, text: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Deferred(StageError):
    """Not possible now, though nothing failed (a rate limit, a full bulkhead): wait `delay`. It uses no attempt."""

    error_code = "DEFERRED"

    def __init__(self, text: str, *, delay: timedelta) -> None:
        super().__init__(text)
        self.delay = delay


class Unavailable(Deferred):
    """Our own broker or Redis cannot be reached. The message is not to blame, so it uses no attempt."""

    error_code = "SERVICE_UNAVAILABLE"

    def __init__(self, text: str, *, delay: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(text, delay=delay)
