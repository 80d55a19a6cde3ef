"""Asks the next provider, in an order that is a setting, when the first cannot answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, PartialReply, Turn, await_answer
from eai_agent_router.errors import AgentNotFound, AgentUnauthorized
from eai_agent_router.guards.waits import ProviderDown
from eai_common.clock import Deadline
from eai_common.errors import StageError
from eai_common.telemetry import Metrics, get_logger

__all__ = ["FallbackAgent"]

log = get_logger(__name__)

_OUT_OF_REACH = (ProviderDown, AgentUnauthorized, AgentNotFound)
"""The first is down, or misconfigured. What a provider answered (a refusal, too long a message) is an answer, and a
timeout may still become one: no other provider is asked then."""


class FallbackAgent(Agent):
    """Asks the first, and the others in their order when it is out of reach, or on a message's last attempt.

    On the last attempt the first is not asked again: if it hangs, it takes the time that the next one needs. A turn
    that names an engine, and a history, go to the first only: no other has that engine, or the conversation.
    """

    def __init__(self, agents: Sequence[tuple[str, Agent]], *, last_attempt: int, metrics: Metrics) -> None:
        self._agents = agents
        self._last_attempt = last_attempt
        self._metrics = metrics

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        """Raises what the last agent that was asked raises."""
        return await await_answer(self.stream(turn, deadline=deadline))

    async def stream(self, turn: Turn, *, deadline: Deadline) -> AsyncGenerator[PartialReply | Answer, None]:
        """Raises what `ask` raises. Once words have been shown, no other agent is asked."""
        candidates = self._candidates(turn)
        for number, (provider, agent) in enumerate(candidates, start=1):
            has_begun = False
            try:
                async with aclosing(agent.stream(turn, deadline=deadline)) as parts:
                    async for part in parts:
                        has_begun = True
                        yield part
                return
            except _OUT_OF_REACH as error:
                if has_begun or number == len(candidates):
                    raise
                self._note(provider, candidates[number][0], error)

    def _candidates(self, turn: Turn) -> Sequence[tuple[str, Agent]]:
        candidates = self._agents if turn.reasoning_engine_id is None else self._agents[:1]
        if len(candidates) > 1 and 1 < turn.attempt >= self._last_attempt:
            self._metrics.fallbacks.labels(candidates[0][0], candidates[1][0]).inc()
            return candidates[1:]
        return candidates

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        return await self._agents[0][1].remember(history, deadline=deadline)

    def _note(self, provider: str, instead: str, error: StageError) -> None:
        self._metrics.fallbacks.labels(provider, instead).inc()
        log.warning("agent_fell_back", ai_provider=provider, instead=instead, error_code=error.error_code)
