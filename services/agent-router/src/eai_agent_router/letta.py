"""Converts a Letta server's answer to the messages that clients know. Pure; the shapes are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, JsonValue, ValidationError

from eai_agent_router.errors import AgentBadResponse
from eai_agent_router.shapes import OBJECT, Lenient, TurnStamp, explain_shape
from eai_common.messages import rfc3339
from eai_common.replies import (
    AssistantMessage,
    ReasoningMessage,
    ReplyMessage,
    ToolCall,
    ToolCallMessage,
    UsageStatistics,
)

__all__ = ["read_letta_replies"]


class _Usage(Lenient):
    completion_tokens: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0
    step_count: int = 0
    steps_messages: list[JsonValue] | None = None
    run_ids: list[str] | None = None


class _Answer(Lenient):
    messages: list[dict[str, JsonValue]]
    usage: Annotated[_Usage, OBJECT] = _Usage()


class _Typed(Lenient):
    message_type: str


class _Part(Lenient):
    type: Literal["text"]
    text: str


class _Calls(Lenient):
    """One call in older servers, several in newer ones."""

    tool_call: ToolCall | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def all(self) -> list[ToolCall]:
        return self.tool_calls or ([self.tool_call] if self.tool_call else [])


class _Content(Lenient):
    content: str | list[_Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class _Known(BaseModel):
    reply: ReplyMessage


_KNOWN = frozenset({"user_message", "assistant_message", "reasoning_message", "tool_return_message"})


def read_letta_replies(answer: JsonValue, stamp: TurnStamp) -> tuple[ReplyMessage, ...]:
    """Return the messages of one answer, their usage statistics at the end. Kinds that clients do not know are dropped.

    Raises AgentBadResponse if the shape is unknown or the assistant says nothing.
    """
    try:
        known = _Answer.model_validate(answer)
        replies = [reply for number, given in enumerate(known.messages) for reply in _convert(given, number, stamp)]
    except ValidationError as error:
        raise explain_shape(error, "Letta's answer", answer) from error
    if not any(isinstance(reply, AssistantMessage) and reply.content.strip() for reply in replies):
        raise AgentBadResponse("Letta's answer has no text for the user", answer=answer)
    return (*replies, _sum_usage(known.usage, replies, stamp))


def _convert(given: dict[str, JsonValue], number: int, stamp: TurnStamp) -> Iterator[ReplyMessage]:
    kind = _Typed.model_validate(given).message_type
    fields: dict[str, object] = {"id": f"{stamp.message_id}:{number}", **given}
    if kind == "tool_call_message":
        for call in _Calls.model_validate(given).all:
            yield ToolCallMessage.model_validate({**fields, "tool_call": call})
    elif kind in _KNOWN:
        yield _Known.model_validate({"reply": _join_text(fields)}).reply


def _join_text(fields: dict[str, object]) -> dict[str, object]:
    return {**fields, "content": _Content.model_validate(fields).text} if "content" in fields else fields


def _sum_usage(usage: _Usage, replies: Sequence[ReplyMessage], stamp: TurnStamp) -> UsageStatistics:
    models = (reply.model_name for reply in replies if isinstance(reply, AssistantMessage | ReasoningMessage))
    return UsageStatistics.model_validate(
        {
            **usage.model_dump(),
            "agent_id": stamp.agent_id,
            "processed_at": rfc3339(stamp.received_at),
            "model_names": list(dict.fromkeys(name for name in models if name)),
        }
    )
