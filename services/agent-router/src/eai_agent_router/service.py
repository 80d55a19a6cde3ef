"""Puts the agent router together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from eai_agent_router.agent import Agent
from eai_agent_router.conversations import ConversationStore
from eai_agent_router.guards import FallbackAgent, GuardResources, guard_agent
from eai_agent_router.handler import Agents, Answering, RouteMessage, UpdateHistory, record_use
from eai_agent_router.inbox import InboxWorker, WorkerRules
from eai_agent_router.provider import ProviderResources, ProviderSettings, load_providers
from eai_agent_router.settings import AgentSettings
from eai_agent_router.threads import AgentIdCache, ThreadStore
from eai_agent_router.wiring import open_agents
from eai_common.messages import HistoryUpdate, MessageText, MessageTranscribed
from eai_common.process import BrokerResources, CommonSettings, Service, ServiceDefinition
from eai_common.stage import Stage
from eai_common.store import SlidingWindow
from eai_common.turns.settings import OrderingSettings
from eai_common.turns.store import InboxStore

__all__ = ["AGENT_ROUTER", "Settings"]


@dataclass(frozen=True)
class Settings(AgentSettings, CommonSettings):
    """Everything that the agent router reads."""

    ordering: OrderingSettings


@asynccontextmanager
async def _build(settings: Settings, resources: BrokerResources) -> AsyncIterator[Service]:
    ttl = settings.tasks.agent_id_cache_ttl
    stores = AgentIdCache(resources.redis, ttl), ConversationStore(resources.redis, ttl)
    async with open_agents(settings, ProviderResources(*stores, resources.clock)) as by_provider:
        guards = _guard_resources(settings, resources, providers=len(by_provider))
        agents = _agents(settings, by_provider, guards)
        parallel = len(by_provider) * (guards.parallel + guards.max_queued)
        worker = _worker(settings, resources, agents)
        yield Service(stages=[Stage("agent-router", worker=worker, parallel=parallel, redis=resources.redis)])


def _worker(settings: Settings, resources: BrokerResources, agents: Agents) -> InboxWorker:
    ordering, lease = settings.ordering, settings.worker.checkpoint_lease
    rules = replace(
        ordering.rules,
        fail_if_uncertain=settings.router.agent_if_uncertain == "fail",
        lease_ms=lease // timedelta(milliseconds=1),
    )
    threads = ThreadStore(resources.redis, settings.tasks.agent_id_cache_ttl)
    max_wait = settings.guards.agent_max_wait
    route, update = RouteMessage(agents, max_wait), UpdateHistory(agents, max_wait)
    return InboxWorker(
        InboxStore(resources.redis, rules, settings.tasks.task_processing_ttl),
        resources.redis,
        {
            MessageText: cast(Answering, route),
            MessageTranscribed: cast(Answering, route),
            HistoryUpdate: cast(Answering, update),
        },
        lambda message: record_use(threads, message, at=resources.clock.now()),
        WorkerRules(
            is_ordered=ordering.ordering_enabled,
            mode=ordering.mode,
            give_up_after=ordering.ordering_max_wait,
            lease=lease,
        ),
        resources.metrics,
    )


def _guard_resources(settings: Settings, resources: BrokerResources, *, providers: int) -> GuardResources:
    """Each provider has as many calls as the process would have for all, so that one that hangs fills its own only.

    Only providers that share a process have a queue before them: where there is one, the broker's queue is enough.
    """
    parallel = settings.guards.agent_parallel or settings.worker.max_parallel or settings.broker.prefetch_count
    return GuardResources(
        settings=settings.guards,
        limiter=SlidingWindow(resources.redis),
        random=resources.random.random,
        metrics=resources.metrics,
        parallel=parallel,
        max_queued=(parallel + 1) // 2 if providers > 1 else 0,
    )


def _agents(settings: Settings, by_provider: Mapping[str, Agent], guards: GuardResources) -> Agents:
    """Every agent behind its guards, and the chain of them for messages that name no provider."""
    ready: dict[str, Agent] = {}
    for name, agent in by_provider.items():
        own = settings.providers.of(name, ProviderSettings)
        target_of = load_providers()[name].targets(name, own)
        ready[name] = guard_agent(agent, name, target_of, guards, calls_a_minute=own.calls_a_minute)
    default = settings.router.agent_provider
    order = list(dict.fromkeys([default, *settings.guards.agent_fallback]))
    last_attempt = settings.broker.max_retries + 1
    chain = [(name, ready[name]) for name in order]
    unnamed = FallbackAgent(chain, last_attempt=last_attempt, metrics=guards.metrics) if len(chain) > 1 else None
    return Agents(ready, default=default, unnamed=unnamed)


AGENT_ROUTER = ServiceDefinition("agent-router", Settings, BrokerResources, _build)
"""Has messages answered by agents."""
