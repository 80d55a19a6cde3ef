"""Events as a user's inbox keeps them: whoever works on the inbox can ask, answer, fail and dead-letter from these."""

from __future__ import annotations

from eai_common.broker import Outgoing
from eai_common.messages import EVENTS, Event, MessageAudio, MessageText, MessageTranscribed, decode, encode
from eai_common.topology import PERMIT
from eai_common.turns.state import Message, Mode, Ref
from eai_common.turns.store import unix_ms

__all__ = ["inbox_message", "make_permit", "pack", "unpack"]


def inbox_message(event: Event, *, mode: Mode = "queue") -> Message:
    """The event as a message of its user's inbox."""
    return Message(
        Ref(event.message_id, event.replay),
        accepted_at=unix_ms(event.timestamp),
        body=pack(event),
        group=_group_of(event),
        mode=mode,
        is_heard=not isinstance(event, MessageAudio),
    )


def pack(event: Event) -> bytes:
    """The event as a body of the inbox: a line with its name, then what is published."""
    return event.name.encode() + b"\n" + encode(event)


def unpack(body: bytes) -> Event:
    """The event that `pack` was given. Raises InvalidMessage."""
    name, _, encoded = body.partition(b"\n")
    kind = EVENTS[name.decode()]
    return decode(encoded, event_name=kind.name, accepts=[kind], fallback_time=None)


def make_permit(body: bytes) -> Outgoing:
    """One more delivery of the message with this body, for whoever works on its user's inbox."""
    event = unpack(body)
    return Outgoing(
        routing_key=PERMIT,
        body=body.partition(b"\n")[2],
        message_id=event.message_id,
        event=event.name,
        timestamp=event.timestamp,
        headers={"x-eai-schema": event.schema_version, **event.trace_headers},
    )


def _group_of(event: Event) -> str:
    """Messages of one group can be one turn: who answers them is the same."""
    if not isinstance(event, MessageText | MessageTranscribed | MessageAudio):
        return ""
    return f"question {event.provider or ''} {event.reasoning_engine_id or ''}".replace("\n", " ")
