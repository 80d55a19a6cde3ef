"""What the adapters keep between messages."""

from __future__ import annotations

from typing import Protocol

from eai_common.messages import HistoryMessage

__all__ = ["AgentIds", "Conversations"]


class AgentIds(Protocol):
    """Which agent the EAI Agent Service made for which user."""

    async def get(self, user_number: str) -> str | None:
        """Return the agent's id, None when none is known. Raises StoreUnavailable."""

    async def put(self, user_number: str, agent_id: str) -> None:
        """Remember the agent. Raises StoreUnavailable."""


class Conversations(Protocol):
    """What users and a model without a memory said to each other."""

    async def read(self, thread_id: str, *, without: str) -> tuple[HistoryMessage, ...]:
        """The thread's messages, oldest first; empty for a new one. An implementation may drop the oldest.

        What was appended for the message id `without` is left out: a turn that is taken again was not there before.
        """

    async def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> None:
        """Add one turn's messages; a second time for the same `message_id` changes nothing."""
