"""Makes one question of several messages that a user wrote in a burst. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from eai_common.messages import AgentReplied, Event, MessageText, MessageTranscribed, rfc3339
from eai_common.replies import UsageStatistics

__all__ = ["as_one_question", "merged_into", "text_of"]


def text_of(message: MessageText | MessageTranscribed) -> str:
    """What the user said.

    A transcript goes on as it is, however unsure the recogniser was: a note in the text would stay in the thread as
    the user's own words, and recognisers do not agree on what 0.6 means.
    """
    return message.message if isinstance(message, MessageText) else message.transcript


def as_one_question(messages: Sequence[Event]) -> Event:
    """The last of the messages, saying what all of them say; a single one as it is.

    The texts become lines in the order of the messages, and so do the previous messages that came with them.
    """
    last = messages[-1]
    if len(messages) == 1:
        return last
    questions = [message for message in messages if isinstance(message, MessageText | MessageTranscribed)]
    previous = list(dict.fromkeys(one.previous_message for one in questions if one.previous_message is not None))
    return MessageText.after(
        last,
        message="\n".join(map(text_of, questions)),
        previous_message="\n".join(previous) if previous else None,
    )


def merged_into(last: Event, message: Event, *, now: datetime) -> AgentReplied:
    """The end of a message that was answered together with a later one, the last."""
    agent_id = f"user_{message.user_number}"
    nothing_said = UsageStatistics(agent_id=agent_id, processed_at=rfc3339(now))
    return AgentReplied.after(message, messages=[nothing_said], agent_id=agent_id, merged_into=last.message_id)
