"""A provider that is down, or wants a pause, is left alone and then tried by a few messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from eai_agent_router.agent import History, Turn
from eai_agent_router.agent_engine import Engines
from eai_agent_router.errors import AgentBadRequest, AgentRateLimited
from eai_agent_router.guards.waits import ProviderDown
from eai_common.errors import Deferred, Permanent, Retriable
from eai_common.guards import BreakerRules, CircuitBreaker, CircuitOpen
from eai_common.telemetry import Metrics

__all__ = ["Circuits", "circuit_names", "is_down"]

NameOf = Callable[[str | None], str]
"""The breaker of a turn, by the engine that it names (None: it names none)."""


@dataclass
class Circuits:
    """The breakers of one provider: one for its own engine, one for each that a message may name instead.

    A client that names a broken engine must not close the others to everybody.
    """

    name_of: NameOf
    rules: BreakerRules
    random: Callable[[], float]
    metrics: Metrics
    _by_name: dict[str, CircuitBreaker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._breaker(self.name_of(None))  # so that its metrics are there before the first message

    @asynccontextmanager
    async def passing(self, asked: Turn | History) -> AsyncIterator[None]:
        """One call. Raises ProviderDown."""
        breaker = self._breaker(self.name_of(asked.reasoning_engine_id))
        try:
            with breaker.call():
                yield
        except CircuitOpen as error:
            raise ProviderDown(str(error), delay=error.delay) from error
        except Retriable as error:
            if error.retry_after is not None:
                breaker.pause(error.retry_after)
            raise

    def _breaker(self, name: str) -> CircuitBreaker:
        if name not in self._by_name:
            self._by_name[name] = CircuitBreaker(
                name, self.rules, judge=is_down, random=self.random, metrics=self.metrics
            )
        return self._by_name[name]


def is_down(error: BaseException) -> bool | None:
    """Whether the error shows that the provider is down (True), or up (False); None when it shows neither."""
    if isinstance(error, Deferred | AgentRateLimited):
        return None
    return isinstance(error, Retriable) if isinstance(error, Retriable | Permanent) else None


def circuit_names(provider: str, engines: Engines | None = None) -> NameOf:
    """One name for the provider; where messages may name engines, one for each that is allowed by name, and one for
    all others: what clients make up must not become metric labels without end."""

    def name_of(requested: str | None) -> str:
        if engines is None or requested is None:
            return provider
        try:
            engine_id = engines.engine_id(requested)
        except AgentBadRequest:
            return provider  # the adapter will refuse it before any call
        if engine_id == engines.engine_id(engines.default_id):
            return provider
        return f"{provider}/{engine_id if engine_id in engines.allowed_ids else 'other'}"

    return name_of
