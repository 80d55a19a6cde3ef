"""An agent that is asked once, as far as that can be known, and what to do where it cannot: see docs/decisions/0010."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal, Protocol

from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.errors import AgentConnectionLost, AgentOutcomeUnknown, AgentTimeout
from eai_common.clock import Deadline
from eai_common.errors import StageError, Unavailable
from eai_common.telemetry import Metrics, get_logger

__all__ = ["Attempts", "IfUncertain", "AskOnceAgent"]

log = get_logger(__name__)

IfUncertain = Literal["ask_again", "fail"]


class Attempts(Protocol):
    """Where questions on their way are noted. Raises StoreUnavailable."""

    def begin(self, message_id: str, provider: str, owner: str) -> Awaitable[bool]:
        """Note a question; gives whether the provider may have had it before."""

    def forget(self, message_id: str, provider: str) -> Awaitable[None]:
        """The provider did nothing about the question."""


class AskOnceAgent(Agent):
    """Notes each question before it is asked, and keeps the note until it is certain that nothing came of it.

    So a note that is found means: the process died in the middle, the shutdown took longer than its grace, no answer
    came in time, or the connection broke before it came. The agent may have answered then, and remember it, and have
    used its tools.
    """

    def __init__(
        self,
        agent: Agent,
        provider: str,
        attempts: Attempts,
        if_uncertain: IfUncertain,
        *,
        new_id: Callable[[], str],
        metrics: Metrics,
    ) -> None:
        self._agent = agent
        self._provider = provider
        self._attempts = attempts
        self._if_uncertain = if_uncertain
        self._new_id = new_id
        self._metrics = metrics

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        if await self._attempts.begin(turn.message_id, self._provider, self._new_id()):
            turn = self._repeated(turn)
        async with self._noted(turn):
            return await self._agent.ask(turn, deadline=deadline)

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        """Without a note: its messages have ids, so a repetition changes nothing."""
        return await self._agent.remember(history, deadline=deadline)

    def _repeated(self, turn: Turn) -> Turn:
        if self._if_uncertain == "fail":
            raise AgentOutcomeUnknown("the agent was asked before, and nobody knows whether it answered")
        self._metrics.agent_asked_again.labels(self._provider).inc()
        log.warning("agent_asked_again", ai_provider=self._provider)
        return replace(turn, is_repeated=True)

    @asynccontextmanager
    async def _noted(self, turn: Turn) -> AsyncIterator[None]:
        try:
            yield
        except (AgentTimeout, AgentConnectionLost):
            raise
        except StageError:
            await self._forget(turn)
            raise

    async def _forget(self, turn: Turn) -> None:
        try:
            await self._attempts.forget(turn.message_id, self._provider)
        except Unavailable as error:
            log.warning("attempt_not_forgotten", error=str(error))
