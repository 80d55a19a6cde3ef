"""Turns what a channel sends into the first event of a message. A channel of its own brings one more adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eai_common.clock import Clock
from eai_common.ids import Ids
from eai_common.messages import Event, MessageAudio, MessageText
from eai_common.telemetry import trace_headers
from eai_ingress.request import RequestRules, parse_webhook

__all__ = ["ChannelAdapter", "WebhookAdapter"]


class ChannelAdapter(Protocol):
    """What a route needs of a channel."""

    def first_event(self, body: bytes) -> Event:
        """The first event of the message in an HTTP body. Raises HttpError 400 that names each wrong field."""


@dataclass(frozen=True, slots=True)
class WebhookAdapter:
    """The body of the user webhook."""

    rules: RequestRules
    ids: Ids
    clock: Clock
    channel: str = "whatsapp"

    def first_event(self, body: bytes) -> MessageText | MessageAudio:
        request = parse_webhook(body, self.rules)
        event = MessageAudio if request.kind == "audio" else MessageText
        return event(
            message_id=self.ids.message_id(),
            channel=self.channel,
            user_number=request.user_number,
            message=request.message,
            message_type=request.kind,
            timestamp=self.clock.now(),
            previous_message=request.previous_message,
            metadata=request.metadata or {},
            provider=request.provider,
            reasoning_engine_id=request.reasoning_engine_id,
            callback_url=request.callback_url,
            trace_headers=trace_headers(),
        )
