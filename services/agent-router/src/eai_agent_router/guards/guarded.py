"""An agent that is called inside of its guards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, PartialReply, Turn
from eai_agent_router.errors import AgentTimeout
from eai_agent_router.guards.judging import TargetOf, is_down
from eai_agent_router.guards.settings import GuardSettings
from eai_agent_router.guards.waits import ProviderBusy, ProviderDown, ProviderLimited, RetriesSpent
from eai_common.clock import Deadline
from eai_common.guards import (
    Bulkhead,
    Call,
    CircuitBreaker,
    Guard,
    GuardChain,
    GuardsByTarget,
    Limiter,
    Measure,
    RateLimit,
    RetryBudget,
    TimeLimit,
    calls_per_minute,
)
from eai_common.telemetry import Metrics, get_logger

__all__ = ["GuardResources", "GuardedAgent", "guard_agent", "provider_guards"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GuardResources:
    """What the guards of all providers stand on. Each provider gets `parallel` calls, and a queue of `max_queued`."""

    settings: GuardSettings
    limiter: Limiter
    random: Callable[[], float]
    metrics: Metrics
    parallel: int
    max_queued: int


class GuardedAgent(Agent):
    """Calls the agent inside of all guards, and counts the questions that reach it. The last guard measures."""

    def __init__(
        self, agent: Agent, provider: str, guards: Sequence[Guard], *, target_of: TargetOf, metrics: Metrics
    ) -> None:
        self._agent = agent
        *self._guards, self._measure = guards
        self._target_of = target_of
        self._count_question = metrics.ai_service_calls.labels(provider).inc
        self._count_repetition = metrics.agent_asked_again.labels(provider).inc

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        """Raises ProviderWait where a guard defers the turn, StoreUnavailable, and what the agent raises."""
        async with GuardChain(self._guards, self._call(turn, deadline)) as call:
            await turn.before_asking()
            self._count(turn)
            async with self._measure.enter(call):
                return await self._agent.ask(turn, deadline=call.deadline)

    async def stream(self, turn: Turn, *, deadline: Deadline) -> AsyncGenerator[PartialReply | Answer, None]:
        """Raises what `ask` raises. The turn is under way, for all guards, until the stream ends."""
        async with GuardChain(self._guards, self._call(turn, deadline)) as call:
            await turn.before_asking()
            self._count(turn)
            async with (
                self._measure.enter(call),
                aclosing(self._agent.stream(turn, deadline=call.deadline)) as parts,
            ):
                async for part in parts:
                    yield part

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        """Raises ProviderWait where a guard defers the history, StoreUnavailable, and what the agent raises."""
        async with GuardChain(self._guards, self._call(history, deadline)) as call:
            await history.before_asking()
            async with self._measure.enter(call):
                return await self._agent.remember(history, deadline=call.deadline)

    def _count(self, turn: Turn) -> None:
        self._count_question()
        if turn.is_repeated:
            self._count_repetition()
            log.warning("agent_asked_again")

    def _call(self, asked: Turn | History, deadline: Deadline) -> Call:
        return Call(deadline, self._target_of(asked.reasoning_engine_id), asked.attempt)


def guard_agent(
    agent: Agent, provider: str, target_of: TargetOf, resources: GuardResources, *, calls_a_minute: int
) -> Agent:
    """Return the agent behind all guards of its provider. `calls_a_minute` is of all replicas, 0 for no limit."""
    guards = provider_guards(provider, resources, calls_a_minute=calls_a_minute)
    return GuardedAgent(agent, provider, guards, target_of=target_of, metrics=resources.metrics)


def provider_guards(provider: str, resources: GuardResources, *, calls_a_minute: int) -> Sequence[Guard]:
    """Return the guards of one provider, outermost first.

    A retry that is one too many takes no place in the bulkhead. A turn that was queued still sees that the provider
    went down meanwhile. A call is counted against the limit when nothing but the call itself is left.
    """
    settings, random, metrics = resources.settings, resources.random, resources.metrics

    limits = [
        RateLimit(provider, window, resources.limiter, refusal=ProviderLimited, random=random)
        for window in calls_per_minute(calls_a_minute)
    ]

    def breaker(target: str) -> Sequence[Guard]:
        """One broken engine must not stop the calls to the others."""
        return [
            CircuitBreaker(
                target, settings.breaker, judge=is_down, refusal=ProviderDown, random=random, metrics=metrics
            )
        ]

    return [
        RetryBudget(provider, settings.budget, refusal=RetriesSpent, random=random),
        Bulkhead(provider, resources.parallel, max_queued=resources.max_queued, refusal=ProviderBusy, random=random),
        TimeLimit(provider, None, AgentTimeout),
        GuardsByTarget(breaker, known=[provider]),  # known: its metrics are there before the first message
        *limits,
        Measure(provider, metrics, time_field="agent_ms"),
    ]
