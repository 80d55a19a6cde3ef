"""How long a client will probably wait, from what recent messages took."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from eai_common.clock import Clock
from eai_common.errors import Unavailable
from eai_common.messages import MessageType

__all__ = ["RecentLatency", "WaitEstimator", "in_words"]

_PATIENCE = timedelta(milliseconds=500)  # the message is accepted already; its client need not wait for a nicety
_UNKNOWN = "1-60 seconds"  # nothing was completed for an hour; the form is what clients parse


class RecentLatency(Protocol):
    """Where recent times come from."""

    async def recent(self, message_type: MessageType) -> list[timedelta]:
        """Times of the last completed messages, newest first. Raises StoreUnavailable."""


class WaitEstimator:
    """The middle and the slow end of recent times, in words; looked up once in `refresh` for each type."""

    def __init__(self, latency: RecentLatency, clock: Clock, refresh: timedelta = timedelta(seconds=5)) -> None:
        self._latency = latency
        self._clock = clock
        self._refresh = refresh
        self._known: dict[MessageType, tuple[float, str]] = {}

    async def estimate(self, message_type: MessageType) -> str:
        """Such as "2-5 seconds"; what was known last while the store is out of reach."""
        looked_up_s, words = self._known.get(message_type, (-math.inf, _UNKNOWN))
        now_s = self._clock.monotonic()
        if now_s - looked_up_s < self._refresh.total_seconds():
            return words
        self._known[message_type] = (now_s, words)  # before the look-up: requests that come meanwhile do not repeat it
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                words = in_words(await self._latency.recent(message_type))
        except (Unavailable, TimeoutError):
            return words
        self._known[message_type] = (now_s, words)
        return words


def in_words(times: Sequence[timedelta]) -> str:
    """The median and the 90th percentile, as whole seconds of at least one."""
    if not times:
        return _UNKNOWN
    ordered = sorted(times)
    low = max(1, math.ceil(ordered[len(ordered) // 2].total_seconds()))
    high = max(low + 1, math.ceil(ordered[int(len(ordered) * 0.9)].total_seconds()))
    return f"{low}-{high} seconds"
