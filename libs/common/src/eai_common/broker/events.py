"""Events as the broker takes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from eai_common.broker import Outgoing
from eai_common.messages import Event, encode

__all__ = ["make_outgoing"]


def make_outgoing(
    event: Event, *, timestamp: datetime | None = None, trace_headers: Mapping[str, str] | None = None
) -> Outgoing:
    """The message that carries the event under its own name; the event's time and trace, unless others are given."""
    return Outgoing(
        routing_key=event.name,
        body=encode(event),
        message_id=event.message_id,
        event=event.name,
        timestamp=event.timestamp if timestamp is None else timestamp,
        headers={
            "x-eai-schema": event.schema_version,
            **(event.trace_headers if trace_headers is None else trace_headers),
        },
    )
