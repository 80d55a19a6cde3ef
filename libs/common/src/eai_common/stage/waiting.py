"""A wait in the delay ladder, as long as it was meant: hop by hop where no rung fits.

The ladder has few rungs. Rounded up to one, a jitter of some seconds is gone, and whoever should come back after 61 s
comes after 120 s. So a wait that no rung fits goes over a shorter one first, and what is left travels in a header.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from eai_common.broker import Headers
from eai_common.errors import Deferred

__all__ = ["StillWaiting", "next_hop", "wait_left", "with_wait_left"]

_WAIT_LEFT_MS = "x-eai-wait-left-ms"
_TOLERABLE = 0.1
_ALWAYS_TOLERABLE = timedelta(seconds=1)
_NEGLIGIBLE = timedelta(milliseconds=500)


class StillWaiting(Deferred):
    """The delivery is between two hops."""

    error_code = "STILL_WAITING"


def next_hop(wait: timedelta, ladder: Sequence[timedelta]) -> timedelta:
    """The rung to wait on next: the first that is no shorter if it is close enough, else the longest shorter one."""
    longer = [rung for rung in ladder if rung >= wait]
    shorter = [rung for rung in ladder if rung < wait]
    if not longer:
        return shorter[-1]
    is_close = longer[0] - wait <= max(_ALWAYS_TOLERABLE, wait * _TOLERABLE)
    return longer[0] if is_close or not shorter else shorter[-1]


def with_wait_left(headers: Headers, left: timedelta) -> Headers:
    """The headers of a delivery that must wait for `left` after the hop that it is sent on."""
    others = {name: value for name, value in headers.items() if name != _WAIT_LEFT_MS}
    return {**others, _WAIT_LEFT_MS: left // timedelta(milliseconds=1)} if left >= _NEGLIGIBLE else others


def wait_left(headers: Headers) -> timedelta:
    """How long a delivery with these headers must wait on; zero for one whose wait is over, or that someone garbled."""
    left_ms = headers.get(_WAIT_LEFT_MS)
    return timedelta(milliseconds=left_ms if isinstance(left_ms, int) and left_ms > 0 else 0)
