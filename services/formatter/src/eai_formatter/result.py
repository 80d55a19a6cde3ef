"""Builds the result that the poller returns and a callback delivers, from the agent's reply or from a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from eai_common.messages import AgentReplied, Event, HistoryUpdated, MessageFailed, rfc3339
from eai_common.replies import AssistantMessage, ReplyMessage, UsageStatistics
from eai_formatter.rendering import Formatted
from eai_formatter.texts import FailureText

__all__ = ["completed_result", "failed_result", "history_result"]

Result = dict[str, JsonValue]


def completed_result(event: AgentReplied, *, now: datetime, format_text: Callable[[str], Formatted]) -> Result:
    """The answer. Only the agent's own texts are formatted; the other messages stay as received.

    A message that was answered with a later one has no text of its own, and names that message in `merged_into`.
    """
    contents: list[JsonValue] = []
    content = ""
    messages: list[JsonValue] = []
    for message in event.messages:
        if isinstance(message, AssistantMessage):
            reply = format_text(message.content)
            content, contents = reply.content, list(reply.contents)  # the last one is the answer
            message = message.model_copy(update={"content": reply.content})
        messages.append(message.model_dump(mode="json"))
    return {
        "status": "completed",
        "content": content,
        "contents": contents,
        **({"merged_into": event.merged_into} if event.merged_into is not None else {}),
        **_journey(event, now),
        "data": _data(event, event.agent_id, messages, "done"),
    }


def history_result(event: HistoryUpdated, *, now: datetime) -> Result:
    """The outcome of a history update. Its only content is the provider's answer."""
    return {
        "status": "completed",
        "content": "",
        "contents": [],
        **_journey(event, now),
        "answer": event.answer,
        "data": _data(event, _agent_id(event), [], "done"),
    }


def failed_result(event: MessageFailed, text: FailureText, *, now: datetime) -> Result:
    """The failure: a stable code for the client, and a friendly text for the user in place of an answer."""
    said: Sequence[ReplyMessage] = (
        AssistantMessage(id=f"message-{event.message_id}", date=rfc3339(now), content=text.text, is_err=True),
        UsageStatistics(agent_id=_agent_id(event), processed_at=rfc3339(now), status="error"),
    )
    messages: list[JsonValue] = [message.model_dump(mode="json") for message in said]
    result: Result = {"status": "failed", "error": text.error, "error_code": event.error_code}
    if event.retry_after_s is not None:
        result["retry_after"] = event.retry_after_s
    return {
        **result,
        "content": text.text,
        "contents": [text.text],
        **_journey(event, now),
        "data": _data(event, _agent_id(event), messages, "error"),
    }


def _journey(event: Event, now: datetime) -> Result:
    return {
        "message_id": event.message_id,
        "thread_id": event.user_number,
        "processing_time_ms": max(0, (now - event.timestamp) // timedelta(milliseconds=1)),
        "message_type": event.message_type,
        "transcript": event.transcript,
        "metadata": event.metadata,
    }


def _data(event: Event, agent_id: str, messages: list[JsonValue], status: str) -> Result:
    # `processed_at` holds the message id: clients of the predecessor read it there.
    return {"messages": messages, "agent_id": agent_id, "processed_at": event.message_id, "status": status}


def _agent_id(event: Event) -> str:
    return f"user_{event.user_number}"
