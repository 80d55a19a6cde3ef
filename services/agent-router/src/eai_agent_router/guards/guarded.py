"""An agent with all its guards around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.guards.booking import Booking
from eai_agent_router.guards.budget import RetryBudget
from eai_agent_router.guards.circuits import Circuits, NameOf
from eai_agent_router.guards.limit import Limit, Limiter, minute
from eai_agent_router.guards.places import Places
from eai_agent_router.guards.settings import GuardSettings
from eai_common.clock import Deadline
from eai_common.telemetry import Metrics

__all__ = ["GUARDS", "Guard", "GuardParts", "GuardedAgent", "guarded"]


class Guard(Protocol):
    """Lets a call pass, or raises a ProviderWait in its place."""

    def passing(self, asked: Turn | History) -> AbstractAsyncContextManager[None]:
        """The call is made inside."""


@dataclass(frozen=True, slots=True)
class GuardParts:
    """What the guards of all providers stand on. `places` is how many turns each provider gets, `line` how many more
    may stand in line for one."""

    settings: GuardSettings
    limiter: Limiter
    random: Callable[[], float]
    metrics: Metrics
    places: int
    line: int


def _budget(provider: str, name_of: NameOf, parts: GuardParts) -> Guard | None:
    return RetryBudget(provider, parts.settings.budget, random=parts.random)


def _places(provider: str, name_of: NameOf, parts: GuardParts) -> Guard | None:
    return Places(provider, places=parts.places, line=parts.line, random=parts.random)


def _circuits(provider: str, name_of: NameOf, parts: GuardParts) -> Guard | None:
    return Circuits(name_of, parts.settings.breaker, parts.random, parts.metrics)


def _limit(provider: str, name_of: NameOf, parts: GuardParts) -> Guard | None:
    limit = parts.settings.rate_limit(provider)
    if not limit:
        return None
    window = minute(limit)
    booking = Booking(parts.random, horizon=2 * window.period)
    return Limit(provider, window, parts.limiter, booking)


GUARDS: Mapping[str, Callable[[str, NameOf, GuardParts], Guard | None]] = {
    "budget": _budget,
    "places": _places,
    "circuits": _circuits,
    "limit": _limit,
}
"""Outermost first. A retry that is one too many takes no place; who stood in line for one still sees that the provider
went down meanwhile; and a call is counted against the limit only when nothing but the call itself is left."""


class GuardedAgent:
    """Passes everything on, through one guard."""

    def __init__(self, agent: Agent, guard: Guard) -> None:
        self._agent = agent
        self._guard = guard

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        async with self._guard.passing(turn):
            return await self._agent.ask(turn, deadline=deadline)

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        async with self._guard.passing(history):
            return await self._agent.remember(history, deadline=deadline)


def guarded(agent: Agent, provider: str, name_of: NameOf, parts: GuardParts) -> Agent:
    """The agent behind all guards of its provider."""
    guards: Sequence[Guard | None] = [build(provider, name_of, parts) for build in GUARDS.values()]
    for guard in reversed(guards):
        agent = agent if guard is None else GuardedAgent(agent, guard)
    return agent
