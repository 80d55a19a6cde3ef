"""The users' places that this process holds, and their renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from eai_common.store import StoreUnavailable, together_all
from eai_common.telemetry import get_logger
from eai_common.turns.state import Grant, Held
from eai_common.turns.store import InboxStore

__all__ = ["Leases"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    user: str
    grant: Grant
    interrupt: Callable[[], None] | None


class Leases:
    """Renews the leases of all places in one round trip, and passes on that a turn was interrupted."""

    def __init__(self, inboxes: InboxStore, every: timedelta) -> None:
        self._inboxes = inboxes
        self._every_s = every.total_seconds()
        self._places: set[_Place] = set()

    @contextmanager
    def holding(self, user: str, grant: Grant, interrupt: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep the user's place inside. `interrupt` is called when the turn is to be stopped."""
        place = _Place(user, grant, interrupt)
        self._places.add(place)
        try:
            yield
        finally:
            self._places.discard(place)

    async def renew_regularly(self) -> None:
        """Renew for ever. A lease that lapses while Redis is away is taken again afterwards."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.renew()
            except StoreUnavailable as error:
                log.warning("leases_not_renewed", error=str(error), count=len(self._places))

    async def renew(self) -> None:
        """Renew all leases that are held. Raises StoreUnavailable."""
        places = list(self._places)
        if not places:
            return
        answers = await together_all([self._inboxes.renew(place.user, place.grant) for place in places])
        for place, answer in zip(places, answers, strict=True):
            is_interrupted = isinstance(answer, Held) and answer.is_interrupted
            if is_interrupted and place.interrupt is not None and place in self._places:
                place.interrupt()
