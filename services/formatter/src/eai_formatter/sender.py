"""The port to a channel, to which it delivers finished results. Callbacks are its first adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eai_common.messages import TaskCompleted
from eai_common.stage import StageContext

__all__ = ["SendResult", "Sender"]


class Sender(Protocol):
    """Delivers finished results to one channel."""

    async def send(self, event: TaskCompleted, ctx: StageContext) -> None:
        """Return once the channel has the result, or needs none. A later attempt sends the same event again.

        Raises Deferred where the channel takes nothing for now, Retriable where this attempt failed, Permanent where
        no other would do better.
        """


@dataclass(frozen=True, slots=True)
class SendResult:
    """The handler of the stage: gives each result to the sender of its channel, else to the `default` one."""

    default: Sender
    by_channel: Mapping[str, Sender] = field(default_factory=dict)

    async def __call__(self, event: TaskCompleted, ctx: StageContext) -> None:
        """Raises what the sender raises."""
        await self.by_channel.get(event.channel, self.default).send(event, ctx)
