"""Why a message waits for its provider, and what that becomes once it has waited for too long."""

from __future__ import annotations

from typing import ClassVar

from eai_agent_router.errors import AgentRateLimited, AgentUnavailable
from eai_common.errors import Retriable
from eai_common.guards import GuardWait

__all__ = ["ProviderBusy", "ProviderDown", "ProviderLimited", "ProviderWait", "RetriesSpent"]


class ProviderWait(GuardWait):
    """Not now: the provider was not asked."""

    overdue: ClassVar[type[Retriable]] = AgentUnavailable


class ProviderBusy(ProviderWait):
    """This process has as many calls to the provider under way as it may."""

    error_code = "AGENT_BUSY"


class ProviderDown(ProviderWait):
    """The provider failed several times in a row, or asked for a pause."""

    error_code = "AGENT_DOWN"


class ProviderLimited(ProviderWait):
    """All replicas together have made as many calls as they may."""

    error_code = "AGENT_LIMIT_REACHED"
    overdue = AgentRateLimited


class RetriesSpent(ProviderWait):
    """So many attempts are retries already that one more would feed an outage."""

    error_code = "AGENT_RETRIES_SPENT"
