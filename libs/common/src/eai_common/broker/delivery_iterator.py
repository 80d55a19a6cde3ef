"""The part of a consumer that both adapters share: yield deliveries until told to stop, then hand the rest back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

from eai_common.broker import Delivery

__all__ = ["DeliveryIterator", "DeliverySource", "cancel_on"]


class DeliverySource(Protocol):
    """A subscription, as its iterator sees it."""

    def take(self) -> Delivery | None:
        """The next prefetched delivery, None if there is none now."""

    async def wait(self) -> None:
        """Return when `take` is worth another call; subscribes first if necessary. May be cancelled."""

    async def hand_back(self) -> None:
        """End the subscription and give back what was prefetched; what was taken can still be settled."""


class DeliveryIterator:
    """The iterator behind `Consumer.until`.

    A class and not an async generator: cancelling one `anext` (a timeout around it) must not end the iteration.
    """

    def __init__(self, source: DeliverySource, stop: asyncio.Event) -> None:
        self._source = source
        self._stop = stop

    def __aiter__(self) -> DeliveryIterator:
        return self

    async def __anext__(self) -> Delivery:
        while not self._stop.is_set():
            if (delivery := self._source.take()) is not None:
                return delivery
            await cancel_on(self._stop, self._source.wait())
        await self._source.hand_back()
        raise StopAsyncIteration


async def cancel_on(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Run `work`, and cancel it as soon as `stop` is set. Raises what `work` raises."""
    running = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
    if not running.cancelled():
        running.result()
