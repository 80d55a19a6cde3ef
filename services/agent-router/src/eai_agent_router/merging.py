"""Makes one turn of several messages that a user wrote in a burst. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eai_common.broker import Outgoing
from eai_common.messages import AgentReplied, Event, MessageText, MessageTranscribed, decode, rfc3339
from eai_common.replies import UsageStatistics

__all__ = ["MergedTurn", "as_one_turn", "kind_of", "text_of"]


@dataclass(frozen=True, slots=True)
class MergedTurn:
    """`question` is the last message, saying what all of them say; `merged` are the ends of the others."""

    question: MessageText
    merged: tuple[AgentReplied, ...]


def kind_of(message: Event) -> str:
    """Messages of one kind can be one turn: who answers them is the same. Empty: it merges with none."""
    if not isinstance(message, MessageText | MessageTranscribed):
        return ""
    return f"question {message.provider or ''} {message.reasoning_engine_id or ''}".replace("\n", " ")


def text_of(message: MessageText | MessageTranscribed) -> str:
    """What the user said.

    A transcript goes on as it is, however unsure the recogniser was: a note in the text would stay in the thread as
    the user's own words, and recognisers do not agree on what 0.6 means.
    """
    return message.message if isinstance(message, MessageText) else message.transcript


def as_one_turn(first: Event, others: Sequence[Outgoing], *, now: datetime) -> MergedTurn:
    """The first message and the `others`, which were kept as they came from the broker, as one turn.

    The texts become lines in the order of the messages, and so do the previous messages that came with them.
    """
    messages = [_question(first), *(_decoded(other) for other in others)]
    last = messages[-1]
    previous = list(dict.fromkeys(one.previous_message for one in messages if one.previous_message is not None))
    question = MessageText.after(
        last,
        message="\n".join(map(text_of, messages)),
        previous_message="\n".join(previous) if previous else None,
    )
    return MergedTurn(question, tuple(_merged(one, last, now) for one in messages[:-1]))


def _question(message: Event) -> MessageText | MessageTranscribed:
    if not isinstance(message, MessageText | MessageTranscribed):
        raise AssertionError(f"{message.name} has a kind that merges with none")
    return message


def _decoded(kept: Outgoing) -> MessageText | MessageTranscribed:
    kinds: list[type[MessageText] | type[MessageTranscribed]] = [MessageText, MessageTranscribed]
    return decode(kept.body, event_name=kept.event, accepts=kinds, fallback_time=kept.timestamp)


def _merged(message: Event, into: Event, now: datetime) -> AgentReplied:
    agent_id = f"user_{message.user_number}"
    nothing_said = UsageStatistics(agent_id=agent_id, processed_at=rfc3339(now))
    return AgentReplied.after(message, messages=[nothing_said], agent_id=agent_id, merged_into=into.message_id)
