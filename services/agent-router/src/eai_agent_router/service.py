"""Puts the agent router together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_agent_router.agent import Agent
from eai_agent_router.attempts import AttemptStore
from eai_agent_router.conversations import ConversationStore
from eai_agent_router.guards import FallbackAgent, GuardResources, guard_agent
from eai_agent_router.handler import Agents, RouteMessage, UpdateHistory
from eai_agent_router.once import AskOnceAgent
from eai_agent_router.ordering import MailboxOrdering, OrderRules
from eai_agent_router.provider import ProviderResources, ProviderSettings, load_providers
from eai_agent_router.settings import AgentSettings
from eai_agent_router.threads import AgentIdCache, ThreadStore
from eai_agent_router.wiring import open_agents
from eai_common.messages import HistoryUpdate, MessageText, MessageTranscribed
from eai_common.process import BrokerResources, CommonSettings, Service, ServiceDefinition
from eai_common.settings import OrderingSettings
from eai_common.stage import MailboxEndObserver, Stage, handler_for
from eai_common.store import Checkpoints, Mailboxes, SlidingWindow

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
        asked_once = {name: _once(name, agent, settings, resources) for name, agent in by_provider.items()}
        agents = _agents(settings, asked_once, guards)
        threads = ThreadStore(resources.redis, ttl)
        max_wait = settings.guards.agent_max_wait
        route = RouteMessage(agents, threads, max_wait)
        update = UpdateHistory(agents, threads, max_wait)
        yield Service(
            stages=[
                Stage(
                    "agent-router",
                    (
                        handler_for(MessageText, route),
                        handler_for(MessageTranscribed, route),
                        handler_for(HistoryUpdate, update),
                    ),
                    parallel=len(by_provider) * (guards.parallel + guards.max_queued),
                    ordering=_ordering(settings, resources),
                    redis=resources.redis,
                )
            ]
        )


def _once(name: str, agent: Agent, settings: Settings, resources: BrokerResources) -> Agent:
    """The agent with a note before each question. Inside of the guards: who waits for them has not asked anybody."""
    return AskOnceAgent(
        agent,
        name,
        AttemptStore(resources.redis, settings.tasks.checkpoint_ttl),
        settings.router.agent_if_uncertain,
        new_id=resources.ids.random_id,
        metrics=resources.metrics,
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


def _ordering(settings: Settings, resources: BrokerResources) -> MailboxOrdering | None:
    if not settings.ordering.ordering_enabled:
        return None
    own, earlier = (
        Checkpoints(
            resources.redis,
            stage=stage,
            lease=settings.worker.checkpoint_lease,
            ttl=settings.tasks.checkpoint_ttl,
            clock=resources.clock,
        )
        for stage in ("agent-router", "transcriber")
    )
    mailboxes = Mailboxes(resources.redis, settings.tasks.task_processing_ttl)
    return MailboxOrdering(
        mailboxes,
        MailboxEndObserver(mailboxes, resources.broker, resources.clock, resources.ids.random_id),
        own,
        earlier,
        OrderRules(settings.ordering.ordering_max_wait, settings.router.merging),
        clock=resources.clock,
        metrics=resources.metrics,
    )


AGENT_ROUTER = ServiceDefinition("agent-router", Settings, BrokerResources, _build)
"""Has messages answered by agents."""
