"""The agent router's own settings, and those of its providers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from eai_agent_router.guards import GuardSettings
from eai_agent_router.provider import ProviderGroups
from eai_common.settings import Group, ProviderName

__all__ = ["AgentSettings", "RouterSettings"]


class RouterSettings(Group):
    """Which agent answers."""

    agent_provider: ProviderName = Field(
        default="google_agent_engine",
        description="Provider for messages that name none. It must be configured.",
    )
    agent_if_uncertain: Literal["ask_again", "fail"] = Field(
        default="ask_again",
        description="If it is unknown whether an agent answered (the process died, or the call timed out): "
        "ask_again may add the question to the thread twice; fail tells the user and asks nobody.",
    )


@dataclass(frozen=True)
class AgentSettings:
    """The groups that choose and open agents; a service's settings extend it."""

    router: RouterSettings
    providers: ProviderGroups
    guards: GuardSettings
