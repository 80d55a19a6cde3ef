"""An agent whose calls are counted, timed and named in the delivery's log line."""

from __future__ import annotations

from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_common.clock import Deadline
from eai_common.telemetry import Metrics, add_to_line, time_to_line

__all__ = ["MeasuredAgent"]


class MeasuredAgent:
    """Passes everything on."""

    def __init__(self, agent: Agent, provider: str, metrics: Metrics) -> None:
        self._agent = agent
        self._provider = provider
        self._metrics = metrics

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        self._metrics.ai_service_calls.labels(self._provider).inc()
        add_to_line(ai_provider=self._provider)
        with self._metrics.external_call(self._provider), time_to_line("agent_ms"):
            return await self._agent.ask(turn, deadline=deadline)

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        add_to_line(ai_provider=self._provider)
        with self._metrics.external_call(self._provider), time_to_line("agent_ms"):
            return await self._agent.remember(history, deadline=deadline)
