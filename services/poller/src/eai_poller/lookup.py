"""Reads a message's state from Redis. Polls that arrive together share a round trip."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from eai_common.clock import Clock
from eai_common.ids import issued_at
from eai_common.store import TaskStore, TaskView
from eai_poller.answer import Answer, answer_for

__all__ = ["Lookup"]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Each method raises StoreUnavailable."""

    tasks: TaskStore
    clock: Clock
    id_key: bytes
    known_for: timedelta

    async def answer(self, message_id: UUID) -> Answer:
        """The answer to a poll for the message now."""
        view = await self.view(message_id)
        issued = issued_at(message_id, self.id_key)
        return answer_for(view, issued_at=issued, now=self.clock.now(), known_for=self.known_for)

    async def view(self, message_id: UUID) -> TaskView:
        """What the store holds of the message."""
        return await self.tasks.read(str(message_id))
