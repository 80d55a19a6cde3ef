"""How long a client will probably wait: what recent messages took, and what stands in the queues before its own."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from eai_common.errors import Unavailable
from eai_common.messages import MessageType
from eai_common.store import Completion

__all__ = ["RecentLatency", "WaitEstimator", "backlog_s", "in_words"]

_UNKNOWN = "1-60 seconds"  # nothing was completed for an hour; the form is what clients parse
_RUN = 20  # completions in a row, of which the fastest such run is what the pipeline can do


class RecentLatency(Protocol):
    """Where recent times come from."""

    def completions(self, message_type: MessageType) -> Awaitable[list[Completion]]:
        """The last completed messages, newest first. Raises StoreUnavailable."""


class WaitEstimator:
    """Keeps an estimate for each type; `refresh` makes it new, in the background, so that no request waits for it."""

    def __init__(self, latency: RecentLatency) -> None:
        self._latency = latency
        self._words: dict[MessageType, str] = {}

    def estimate(self, message_type: MessageType) -> str:
        """Such as "2-5 seconds"; what was known last while the store is out of reach."""
        return self._words.get(message_type, _UNKNOWN)

    async def refresh(self, waiting: Mapping[MessageType, int]) -> None:
        """Look at recent messages; `waiting` is how many stand before a new one of each type."""
        for message_type, depth in waiting.items():
            try:
                recent = await self._latency.completions(message_type)
            except Unavailable:
                return
            self._words[message_type] = in_words([done.took for done in recent], backlog_s(recent, depth))


def backlog_s(recent: Sequence[Completion], depth: int) -> float:
    """How long the pipeline needs for `depth` messages at the best pace that it has shown; 0.0 while that is unknown.

    The best, as the average of a quiet hour says how often people write, not how fast they are answered.
    """
    times = [done.at for done in recent if done.at is not None]
    runs = (newest - oldest for newest, oldest in zip(times, times[_RUN:], strict=False))
    fastest = min(runs, default=None)
    return 0.0 if fastest is None else depth * max(0.0, fastest.total_seconds()) / _RUN


def in_words(times: Sequence[timedelta], backlog: float = 0.0) -> str:
    """The median and the 90th percentile, as whole seconds of at least one; both more if `backlog` seconds come first.

    Recent times hold the waits of their own day, so the backlog is put before the fastest of them, not on top of all.
    """
    if not times:
        return _UNKNOWN
    ordered = sorted(taken.total_seconds() for taken in times)
    fast, middle, slow = (ordered[int(len(ordered) * share)] for share in (0.1, 0.5, 0.9))
    low = max(1, math.ceil(max(middle, fast + backlog)))
    high = max(low + 1, math.ceil(max(slow, middle + backlog)))
    return f"{low}-{high} seconds"
