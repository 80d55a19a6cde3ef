"""Why a message has to wait for its provider, and what that becomes once it has waited for too long."""

from __future__ import annotations

from typing import ClassVar

from eai_agent_router.errors import AgentRateLimited, AgentUnavailable
from eai_common.errors import Deferred, Retriable

__all__ = ["ProviderBusy", "ProviderDown", "ProviderLimited", "ProviderWait", "RetriesSpent"]


class ProviderWait(Deferred):
    """Not now: the provider was not asked. `overdue` is what it becomes when the message's patience is over."""

    overdue: ClassVar[type[Retriable]] = AgentUnavailable


class ProviderBusy(ProviderWait):
    """As many turns as one process may have with the provider are under way."""

    error_code = "AGENT_BUSY"


class ProviderDown(ProviderWait):
    """The provider failed several times in a row, or asked for a pause: it is left alone for a while."""

    error_code = "AGENT_DOWN"


class ProviderLimited(ProviderWait):
    """As many calls as all replicas together may make were made."""

    error_code = "AGENT_LIMIT_REACHED"
    overdue = AgentRateLimited


class RetriesSpent(ProviderWait):
    """So many tries are repetitions already that one more would feed an outage."""

    error_code = "AGENT_RETRIES_SPENT"
