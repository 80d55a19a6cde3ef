"""The agent router's own settings, and those of its providers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import Field

from eai_agent_router.guards import GuardSettings
from eai_agent_router.once import IfUncertain
from eai_agent_router.provider import ProviderGroups
from eai_common.settings import Duration, Group, ProviderName
from eai_common.store.mailboxes import MergeRule

__all__ = ["AgentSettings", "RouterSettings"]


class RouterSettings(Group):
    """Which agent answers."""

    agent_provider: ProviderName = Field(
        default="google_agent_engine",
        description="Provider for messages that name none. It must be configured.",
    )
    agent_if_uncertain: IfUncertain = Field(
        default="ask_again",
        description="If it is unknown whether an agent answered (the process died, or the call timed out): "
        "ask_again may add the question to the thread twice; fail tells the user and asks nobody.",
    )
    double_texting: Literal["queue", "merge"] = Field(
        default="queue",
        description="How messages of one user in quick succession are answered: queue answers one after the "
        "other; merge answers them as one turn, with the last message. Needs ORDERING_ENABLED.",
    )
    merge_window: Duration = Field(
        default=timedelta(seconds=2),
        description="With merge, a turn begins once the user has sent nothing for this long, and after five times "
        "this long at the latest.",
    )

    @property
    def merging(self) -> MergeRule | None:
        """The rule for merging; None if each message is its own turn."""
        return MergeRule(self.merge_window, 5 * self.merge_window) if self.double_texting == "merge" else None


@dataclass(frozen=True)
class AgentSettings:
    """The groups that choose and open agents; a service's settings extend it."""

    router: RouterSettings
    providers: ProviderGroups
    guards: GuardSettings
