"""One reading of the pause that another side asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_PAUSE", "bound_pause", "parse_retry_after"]

LONGEST_PAUSE = timedelta(hours=6)  # the longest rung of the delay ladder
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """Return the pause that a `Retry-After` header asks for, from zero to LONGEST_PAUSE; None if it cannot be read.

    Takes seconds, which some servers send with a fraction, and all three forms of a date (RFC 9110, 5.6.7 and 10.2.3).
    A negative number and a date in the past are zero. A date without a time zone is in UTC.
    """
    text = (value or "").strip()
    if _NUMBER.fullmatch(text):
        return bound_pause(float(text))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # OverflowError: a number of a hundred digits in the date
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return bound_pause((moment - now).total_seconds())


def bound_pause(seconds: float) -> timedelta:
    """Return the number of seconds as a pause, from zero to LONGEST_PAUSE; infinity is the longest."""
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST_PAUSE.total_seconds()))
