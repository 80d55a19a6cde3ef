"""The settings of the order of one user's messages. All services must have the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from eai_common.messages import Event
from eai_common.settings import Duration, Group
from eai_common.turns.state import Mode, Rules

__all__ = ["OrderingSettings"]


class OrderingSettings(Group):
    """The order of one user's messages; the same in all services."""

    ordering_enabled: bool = Field(
        default=True,
        description="Answer each user's messages one after the other, in the order in which they were accepted.",
    )
    ordering_max_wait: Duration = Field(
        default=timedelta(seconds=60),
        description="How long a message may fail and be retried while others of its user wait behind it; its next "
        "error then ends it, so that nothing is answered out of order.",
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
    def rules(self) -> Rules:
        """How users' inboxes work, as far as these settings say it."""
        return Rules(merge_window_ms=self.merge_window // timedelta(milliseconds=1))

    @property
    def mode(self) -> Mode:
        """What a message does about those before it, unless it says so itself."""
        return self.double_texting if self.ordering_enabled else "queue"

    def inbox_of(self, event: Event) -> str:
        """Whose inbox a message goes to. Without an order each message has its own."""
        return event.user_number if self.ordering_enabled else event.message_id
