"""Puts the agent router together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_agent_router.handler import Agents, RouteMessage, UpdateHistory
from eai_agent_router.measured import MeasuredAgent
from eai_agent_router.settings import AgentSettings
from eai_agent_router.wiring import open_agents
from eai_common.messages import HistoryUpdate, MessageText, MessageTranscribed
from eai_common.service import CommonSettings, Parts, Service, ServiceDefinition
from eai_common.stage import Stage, on
from eai_common.store import AgentIdCache, ConversationStore, ThreadStore

__all__ = ["AGENT_ROUTER", "Settings"]


@dataclass(frozen=True)
class Settings(AgentSettings, CommonSettings):
    """Everything that the agent router reads."""


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    ttl = settings.tasks.agent_id_cache_ttl
    async with open_agents(
        settings, agent_ids=AgentIdCache(parts.redis, ttl), conversations=ConversationStore(parts.redis, ttl)
    ) as by_provider:
        measured = {name: MeasuredAgent(agent, name, parts.metrics) for name, agent in by_provider.items()}
        agents = Agents(measured, default=settings.router.agent_provider)
        threads = ThreadStore(parts.redis, ttl)
        route = RouteMessage(agents, threads)
        yield Service(
            stages=[
                Stage(
                    "agent-router",
                    (
                        on(MessageText, route),
                        on(MessageTranscribed, route),
                        on(HistoryUpdate, UpdateHistory(agents, threads)),
                    ),
                )
            ]
        )


AGENT_ROUTER = ServiceDefinition("agent-router", Settings, _build)
"""Has messages answered by agents."""
