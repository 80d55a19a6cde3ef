"""Events as a user's inbox keeps them: whoever works on the inbox can ask, answer, fail and dead-letter from these."""

from __future__ import annotations

from dataclasses import replace

from eai_common.broker import Outgoing
from eai_common.broker.events import make_outgoing
from eai_common.messages import (
    Event,
    MessageAudio,
    MessageText,
    MessageTranscribed,
    decode_named,
    encode_named,
)
from eai_common.topology import PERMIT
from eai_common.turns.state import Message, Mode, Ref
from eai_common.turns.store import unix_ms

__all__ = ["inbox_message", "make_permit"]


def inbox_message(event: Event, *, mode: Mode = "queue") -> Message:
    """The event as a message of its user's inbox."""
    return Message(
        Ref(event.message_id, event.replay),
        accepted_at=unix_ms(event.timestamp),
        body=encode_named(event),
        group=_group_of(event),
        mode=mode,
        is_heard=not isinstance(event, MessageAudio),
    )


def make_permit(body: bytes) -> Outgoing:
    """One more delivery of the message with this body, for whoever works on its user's inbox."""
    return replace(make_outgoing(decode_named(body)), routing_key=PERMIT, body=body.partition(b"\n")[2])


def _group_of(event: Event) -> str:
    """Messages of one group can be one turn: who answers them is the same."""
    if not isinstance(event, MessageText | MessageTranscribed | MessageAudio):
        return ""
    return f"question {event.provider or ''} {event.reasoning_engine_id or ''}".replace("\n", " ")
