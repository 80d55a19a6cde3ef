"""Converts an engine's output, mostly LangChain messages, to the messages that clients know. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from eai_agent_router.errors import AgentBadResponse, AgentRefused
from eai_agent_router.shapes import ITEMS, OBJECT, Lenient, TurnStamp, explain_shape
from eai_common.messages import rfc3339
from eai_common.replies import (
    AssistantMessage,
    ReasoningMessage,
    ReplyMessage,
    ToolCall,
    ToolCallMessage,
    ToolReturnMessage,
    UsageMetadata,
    UsageStatistics,
    UserMessage,
)

__all__ = ["read_replies"]

_BLOCKED = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "content_filter"})
"""Finish reasons of a filter (sources: google.cloud.aiplatform_v1 Candidate.FinishReason; OpenAI, chat completions)."""


class _Usage(Lenient):
    """Either of the two shapes: Gemini's own counts, or LangChain's."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_token_details: Annotated[dict[str, JsonValue], OBJECT] = Field(default_factory=dict)
    output_token_details: Annotated[dict[str, JsonValue], OBJECT] = Field(default_factory=dict)

    def metadata(self) -> UsageMetadata | None:
        if self.prompt_token_count is not None or self.total_token_count is not None:
            return UsageMetadata.model_validate(self.model_dump())
        if self.input_tokens is None and self.output_tokens is None:
            return None
        thoughts = _to_int(self.output_token_details.get("reasoning"))
        return UsageMetadata(
            prompt_token_count=self.input_tokens,
            candidates_token_count=self._spoken(thoughts or 0),
            total_token_count=self.total_tokens,
            thoughts_token_count=thoughts,
            cached_content_token_count=_to_int(self.input_token_details.get("cache_read")),
        )

    def _spoken(self, thoughts: int) -> int | None:
        """The output without the thoughts. LangChain counts them in, older Vertex adapters did not: the total tells."""
        if self.output_tokens is None or self.total_tokens is None:
            return self.output_tokens
        counts_thoughts = (self.input_tokens or 0) + self.output_tokens >= self.total_tokens
        return max(0, self.output_tokens - thoughts) if counts_thoughts else self.output_tokens


class _Metadata(Lenient):
    """`response_metadata`, as the Gemini and OpenAI adapters of LangChain fill it."""

    model_name: str | None = None
    finish_reason: str | None = None
    avg_logprobs: float | None = None
    is_blocked: bool | None = None
    usage_metadata: _Usage | None = None


class _ToolCall(Lenient):
    name: str
    args: JsonValue = None
    id: str | None = None


class _Part(Lenient):
    """A piece of a content list; a type that is neither text nor thought is passed over."""

    type: str = "text"
    text: str | None = None
    thinking: str | None = None
    reasoning: str | None = None
    signature: str | None = None


class _Extra(Lenient):
    timestamp: str | None = None


class _Message(Lenient):
    type: Literal["human", "ai", "AIMessageChunk", "tool", "system", "developer"]
    content: str | list[str | _Part] | None = None
    id: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[_ToolCall], ITEMS] = Field(default_factory=list)
    tool_call_id: str | None = None
    status: str | None = None
    additional_kwargs: Annotated[_Extra, OBJECT] = _Extra()
    response_metadata: Annotated[_Metadata, OBJECT] = _Metadata()
    usage_metadata: _Usage | None = None

    @property
    def is_ai(self) -> bool:
        return self.type in ("ai", "AIMessageChunk")

    @property
    def parts(self) -> list[_Part]:
        content = self.content or []
        given = [content] if isinstance(content, str) else content
        return [_Part(text=part) if isinstance(part, str) else part for part in given]

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts if part.type == "text")

    @property
    def usage(self) -> UsageMetadata | None:
        """From either place; the model's own counts are the better ones."""
        places = (self.response_metadata.usage_metadata, self.usage_metadata)
        return next((found for usage in places if usage and (found := usage.metadata())), None)


class _Dumped(BaseModel):
    """A message as `langchain_core.load.dumpd` writes it."""

    lc: int
    kwargs: dict[str, JsonValue]


class _Listing(Lenient):
    messages: list[JsonValue] = Field(min_length=1)


_MESSAGES = TypeAdapter(list[_Message])


def read_replies(output: JsonValue, stamp: TurnStamp) -> tuple[ReplyMessage, ...]:
    """Return this turn's messages in an engine's output, with their usage statistics at the end.

    Takes `{"messages": […]}`, the bare list, a plain string, and the first of these written as a JSON string; a
    byte-order mark in front is dropped. A thread's earlier messages, up to the last but one human one, are left out.
    Raises AgentRefused if a safety filter took the answer, AgentBadResponse if there is none or the shape is unknown.
    """
    messages = _read_messages(output)
    replies = [reply for number, message in enumerate(messages) for reply in _convert(message, number, stamp)]
    if not any(isinstance(reply, AssistantMessage) for reply in replies):
        raise _explain_missing_answer(messages, output)
    return (*replies, _sum_usage(messages, stamp))


def _read_messages(output: JsonValue) -> list[_Message]:
    """Return this turn's messages. Raises AgentBadResponse, which names where a shape differs, not what is there."""
    if isinstance(output, str):
        text = output.removeprefix("\ufeff")
        listing = _find_listing(text)
        return _read_messages(listing) if listing is not None else [_Message(type="ai", content=text)]
    try:
        given = output if isinstance(output, list) else _Listing.model_validate(output).messages
        # Cut first: a thread grows without end, and old messages need not be parsed to be left out.
        return _MESSAGES.validate_python(_cut_to_turn([_undump(message) for message in given]))
    except ValidationError as error:
        raise explain_shape(error, "the engine's output", output) from error


def _find_listing(text: str) -> JsonValue | None:
    """The message list that a string holds as JSON; None when the string is just words."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("messages"), list) else None


def _undump(message: JsonValue) -> JsonValue:
    if not isinstance(message, dict) or "lc" not in message:
        return message
    return dict(_Dumped.model_validate(message).kwargs)


def _cut_to_turn(messages: Sequence[JsonValue]) -> Sequence[JsonValue]:
    """Return what begins with the last human message; everything when the engine left the question out."""
    for number in reversed(range(len(messages))):
        message = messages[number]
        if isinstance(message, dict) and message.get("type") == "human":
            return messages[number:]
    return messages


def _convert(message: _Message, number: int, stamp: TurnStamp) -> Iterator[ReplyMessage]:
    shared: dict[str, object] = {
        "id": message.id or f"{stamp.message_id}:{number}",
        "date": message.additional_kwargs.timestamp,
        "name": message.name,
    }
    if message.type == "human":
        yield UserMessage.model_validate({**shared, "content": message.text})
    elif message.type == "tool":
        yield _convert_tool_return(message, shared)
    elif message.is_ai:
        yield from _convert_ai(message, shared)


def _convert_tool_return(message: _Message, shared: Mapping[str, object]) -> ToolReturnMessage:
    fields = {
        "is_err": message.status == "error",
        "tool_return": message.text,
        "status": message.status or "success",
        "tool_call_id": message.tool_call_id,
    }
    return ToolReturnMessage.model_validate({**shared, **fields})


def _convert_ai(message: _Message, shared: Mapping[str, object]) -> Iterator[ReplyMessage]:
    """Yield thoughts first, then words, then tool calls: the order in which they were made."""
    metadata = message.response_metadata
    fields: dict[str, object] = {
        **shared,
        "model_name": metadata.model_name,
        "finish_reason": metadata.finish_reason,
        "avg_logprobs": metadata.avg_logprobs,
        "usage_metadata": message.usage,
    }
    for part in message.parts:
        if thought := part.thinking or part.reasoning:
            thinking = {"source": "reasoner_model", "reasoning": thought, "signature": part.signature}
            yield ReasoningMessage.model_validate({**fields, **thinking})
    if message.text.strip():
        yield AssistantMessage.model_validate({**fields, "content": message.text})
    for call in message.tool_calls:
        tool_call = ToolCall(name=call.name, arguments=call.args, tool_call_id=call.id)
        yield ToolCallMessage.model_validate({**fields, "tool_call": tool_call})


def _explain_missing_answer(messages: Sequence[_Message], output: JsonValue) -> AgentRefused | AgentBadResponse:
    last = next((message.response_metadata for message in reversed(messages) if message.is_ai), _Metadata())
    if last.is_blocked or last.finish_reason in _BLOCKED:
        return AgentRefused(f"a safety filter took the answer ({last.finish_reason or 'blocked'})")
    return AgentBadResponse("the engine's output has no text for the user", answer=output)


def _sum_usage(messages: Sequence[_Message], stamp: TurnStamp) -> UsageStatistics:
    steps = [message for message in messages if message.is_ai]
    usages = [usage for step in steps if (usage := step.usage)]
    thoughts = sum(usage.thoughts_token_count or 0 for usage in usages)
    models = (step.response_metadata.model_name for step in steps)
    return UsageStatistics(
        completion_tokens=sum(usage.candidates_token_count or 0 for usage in usages) + thoughts,
        thoughts_tokens=thoughts,
        prompt_tokens=sum(usage.prompt_token_count or 0 for usage in usages),
        total_tokens=sum(usage.total_token_count or 0 for usage in usages),
        step_count=len(steps),
        agent_id=stamp.agent_id,
        processed_at=rfc3339(stamp.received_at),
        model_names=list(dict.fromkeys(name for name in models if name)),
    )


def _to_int(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, int | float) else None
