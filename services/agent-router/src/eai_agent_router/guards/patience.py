"""A message waits for its provider for so long, and then its waiting counts as a failed try."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from eai_agent_router.guards.waits import ProviderWait
from eai_common.messages import Event
from eai_common.stage import StageContext

__all__ = ["Patient"]

EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Patient(Generic[EventT]):
    """A handler whose messages end: after `patience` of waiting each further wait costs an attempt."""

    handle: Callable[[EventT, StageContext], Awaitable[Event | None]]
    patience: timedelta

    async def __call__(self, event: EventT, ctx: StageContext) -> Event | None:
        try:
            return await self.handle(event, ctx)
        except ProviderWait as error:
            waited = ctx.attempt.waited
            if waited < self.patience:
                raise
            raise error.overdue(f"{error}, and the message has waited for {waited.total_seconds():.0f} s") from error
