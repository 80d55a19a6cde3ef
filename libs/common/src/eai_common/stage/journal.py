"""Where a stage notes how it gets on with a message."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from eai_common.store import FailedTry

__all__ = ["Journal"]


class Journal(Protocol):
    """The task's status, unless the stage brings its own: one that works after the end must not touch it.

    Every method raises StoreUnavailable when Redis is out of reach.
    """

    async def note_started(self, message_id: str, *, stage: str, at: datetime, attempt: int) -> None:
        """`stage` works on the message."""

    async def note_error(self, message_id: str, *, stage: str, at: datetime, tried: FailedTry) -> None:
        """A try in `stage` failed."""
