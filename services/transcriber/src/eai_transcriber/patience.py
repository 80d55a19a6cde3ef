"""How long a message waits for a recogniser that is not asked, until its waiting counts as a failed try."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from eai_common.guards import CircuitOpen
from eai_transcriber.errors import RateLimited, TranscriptionUnavailable
from eai_transcriber.limited import QuotaUsedUp

__all__ = ["patience"]


@contextmanager
def patience(waited: timedelta, longest: timedelta) -> Iterator[None]:
    """Let a wait cost no attempt until the message has waited for `longest`, all tries together.

    Afterwards raises TranscriptionUnavailable or RateLimited instead, of which there is a last one: every message ends.
    """
    try:
        yield
    except CircuitOpen as error:
        if waited < longest:
            raise
        raise TranscriptionUnavailable(_overdue(error, waited), retry_after=error.delay) from error
    except QuotaUsedUp as error:
        if waited < longest:
            raise
        raise RateLimited(_overdue(error, waited), retry_after=error.delay) from error


def _overdue(error: Exception, waited: timedelta) -> str:
    return f"{error}, and the message has waited for {waited.total_seconds():.0f} s"
