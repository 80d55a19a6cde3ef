"""What an error says about a provider, and which part of it has a breaker of its own."""

from __future__ import annotations

from collections.abc import Callable

from eai_agent_router.agent_engine import Engines
from eai_agent_router.errors import AgentBadRequest, AgentRateLimited
from eai_common.errors import Deferred, Permanent, Retriable

__all__ = ["TargetOf", "engine_targets", "is_down"]

TargetOf = Callable[[str | None], str]
"""The name of what a turn calls, by the engine that it names (None: it names none)."""


def is_down(error: BaseException) -> bool | None:
    """Whether the error shows that the provider is down (True), or up (False); None when it shows neither."""
    if isinstance(error, Deferred | AgentRateLimited):
        return None
    return isinstance(error, Retriable) if isinstance(error, Retriable | Permanent) else None


def engine_targets(provider: str, engines: Engines | None = None) -> TargetOf:
    """Return one name for the provider; for one with engines, a name for each that is allowed by name, and one for the
    others.

    What clients make up must not become metric labels without end.
    """

    def target_of(requested: str | None) -> str:
        if engines is None or requested is None:
            return provider
        try:
            engine_id = engines.engine_id(requested)
        except AgentBadRequest:
            return provider  # the adapter will refuse it before any call
        if engine_id == engines.engine_id(engines.default_id):
            return provider
        return f"{provider}/{engine_id if engine_id in engines.allowed_ids else 'other'}"

    return target_of
