"""Sees to it that a voice message has its place among its user's messages before it is transcribed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eai_common.messages import MessageAudio, MessageTranscribed
from eai_common.stage import StageContext
from eai_common.store import StoreUnavailable
from eai_common.telemetry import get_logger
from eai_common.turns.bodies import inbox_message
from eai_common.turns.settings import OrderingSettings
from eai_common.turns.store import InboxStore

__all__ = ["AcceptFirst"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptFirst:
    """A handler around the transcriber's. Ingress may have accepted the message while Redis was away."""

    transcribe: Callable[[MessageAudio, StageContext], Awaitable[MessageTranscribed]]
    inboxes: InboxStore
    ordering: OrderingSettings

    async def __call__(self, message: MessageAudio, ctx: StageContext) -> MessageTranscribed:
        """Raises what the transcriber's handler raises."""
        if self.ordering.ordering_enabled and not message.replay:
            await self._accept(message)
        return await self.transcribe(message, ctx)

    async def _accept(self, message: MessageAudio) -> None:
        """Best effort: the transcript's delivery enters it, too, if later."""
        entry = inbox_message(message, mode=self.ordering.mode)
        try:
            await self.inboxes.accept(self.ordering.inbox_of(message), entry, is_late=True)
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error))
