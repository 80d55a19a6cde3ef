"""What the adapters keep between messages."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from eai_common.messages import HistoryMessage

__all__ = ["AgentIds", "Conversations"]


class AgentIds(Protocol):
    """Which agent the EAI Agent Service made for which user."""

    def get(self, user_number: str) -> Awaitable[str | None]:
        """Return the agent's id, None when none is known. Raises StoreUnavailable."""

    def put(self, user_number: str, agent_id: str) -> Awaitable[None]:
        """Remember the agent. Raises StoreUnavailable."""


class Conversations(Protocol):
    """What users and a model without a memory said to each other."""

    def read(self, thread_id: str, *, without: str) -> Awaitable[tuple[HistoryMessage, ...]]:
        """The thread's messages, oldest first; empty for a new one. An implementation may drop the oldest.

        What was appended for the message id `without` is left out: a turn that is taken again was not there before.
        """

    def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> Awaitable[None]:
        """Add one turn's messages; a second time for the same `message_id` changes nothing."""
