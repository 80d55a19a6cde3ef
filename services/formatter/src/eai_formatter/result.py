"""Builds what the poller returns and a callback delivers, from what the agent said or why nobody could."""

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


def completed_result(event: AgentReplied, *, now: datetime, formatted: Callable[[str], Formatted]) -> Result:
    """The answer: only the agent's own words are formatted, the other messages stay as received.

    One that was answered together with a later message says nothing itself, and names that one in `merged_into`.
    """
    contents: list[JsonValue] = []
    content = ""
    messages: list[JsonValue] = []
    for message in event.messages:
        if isinstance(message, AssistantMessage):
            reply = formatted(message.content)
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
    """Nobody said anything: the provider's own answer is all there is to tell."""
    return {
        "status": "completed",
        "content": "",
        "contents": [],
        **_journey(event, now),
        "answer": event.answer,
        "data": _data(event, _agent_id(event), [], "done"),
    }


def failed_result(event: MessageFailed, text: FailureText, *, now: datetime) -> Result:
    """The failure: for the client a stable code, for the user a friendly message in the place of an answer's."""
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
