"""Takes one message into the pipeline. Any route that brings messages in calls this."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from eai_common.broker import Outgoing, Publisher
from eai_common.clock import Clock
from eai_common.errors import Unavailable
from eai_common.ids import Ids
from eai_common.messages import Event, MessageAudio, MessageText, encode
from eai_common.telemetry import Metrics, get_logger, masked_number, trace_headers
from eai_ingress.request import WebhookRequest

__all__ = ["Accepted", "Acceptance", "StatusWriter"]

log = get_logger("eai.ingress")

_FIRST_STAGE: dict[type[Event], str] = {MessageText: "agent-router", MessageAudio: "transcriber"}
_STATUS_PATIENCE = timedelta(milliseconds=500)


class StatusWriter(Protocol):
    """Where the poller looks first."""

    async def note_queued(self, message_id: str, *, stage: str, at: datetime) -> None:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promise: the message will end in an answer."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What accepting needs."""

    ids: Ids
    clock: Clock
    publisher: Publisher
    status: StatusWriter
    metrics: Metrics

    async def accept(self, request: WebhookRequest) -> Accepted:
        """Take one user message in; once this returns, it cannot be lost.

        Raises BrokerUnavailable if no publisher confirm came in time: nothing is promised, the client may try again.
        """
        event = self._first_event(request)
        stage = _FIRST_STAGE[type(event)]
        # The status goes first, so that it can never overwrite what a fast stage has noted meanwhile.
        await self._note_queued(event, stage)
        await self.publisher.publish(
            Outgoing(
                routing_key=event.name,
                body=encode(event),
                message_id=event.message_id,
                event=event.name,
                timestamp=event.timestamp,
                headers={"x-eai-schema": event.schema_version, **event.trace_headers},
            )
        )
        self.metrics.published.labels(event.name).inc()
        log.info("message_accepted", message_id=event.message_id, user=masked_number(event.user_number), stage=stage)
        return Accepted(event.message_id)

    def _first_event(self, request: WebhookRequest) -> MessageText | MessageAudio:
        kind = MessageAudio if request.kind == "audio" else MessageText
        return kind(
            message_id=self.ids.message_id(),
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

    async def _note_queued(self, event: Event, stage: str) -> None:
        """Best effort: without it the poller judges by the id."""
        try:
            async with asyncio.timeout(_STATUS_PATIENCE.total_seconds()):
                await self.status.note_queued(event.message_id, stage=stage, at=event.timestamp)
        except (Unavailable, TimeoutError) as error:
            log.warning("store_unavailable", message_id=event.message_id, error=type(error).__name__)
