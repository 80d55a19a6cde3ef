"""The agent's messages of one turn, in the shape that clients know (`data.messages`).

The shape is that of the previous gateway. A field that a provider does not give is null, never left out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = [
    "AssistantMessage",
    "ReasoningMessage",
    "ReplyMessage",
    "ToolCall",
    "ToolCallMessage",
    "ToolReturnMessage",
    "UsageMetadata",
    "UsageStatistics",
    "UserMessage",
]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class UsageMetadata(_Shape):
    """Tokens of one model call."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class _Message(_Shape):
    id: str
    date: str | None = None  # RFC 3339
    session_id: str | None = None
    time_since_last_message: float | None = None  # seconds
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    step_id: str | None = None
    is_err: bool | None = None


class _ModelMessage(_Message):
    model_name: str | None = None
    finish_reason: str | None = None
    avg_logprobs: float | None = None
    usage_metadata: UsageMetadata | None = None


class UserMessage(_Message):
    """The user's message."""

    message_type: Literal["user_message"] = "user_message"
    content: str


class AssistantMessage(_ModelMessage):
    """The agent's text for the user. Clients use the last one."""

    message_type: Literal["assistant_message"] = "assistant_message"
    content: str


class ReasoningMessage(_ModelMessage):
    """The model's reasoning before its answer."""

    message_type: Literal["reasoning_message"] = "reasoning_message"
    source: str | None = None
    reasoning: str
    signature: str | None = None


class ToolCall(_Shape):
    """A tool call; `arguments` as the provider gave them."""

    name: str
    arguments: JsonValue = None
    tool_call_id: str | None = None


class ToolCallMessage(_ModelMessage):
    """The agent calls a tool."""

    message_type: Literal["tool_call_message"] = "tool_call_message"
    tool_call: ToolCall


class ToolReturnMessage(_Message):
    """The tool's result."""

    message_type: Literal["tool_return_message"] = "tool_return_message"
    tool_return: JsonValue = None
    status: str | None = None
    tool_call_id: str | None = None
    stdout: list[str] | None = None
    stderr: list[str] | None = None


class UsageStatistics(_Shape):
    """The sums of the turn, at the end of the list. `completion_tokens` counts output and thoughts."""

    message_type: Literal["usage_statistics"] = "usage_statistics"
    completion_tokens: int = 0
    thoughts_tokens: int = 0
    prompt_tokens: int = 0
    total_tokens: int = 0
    step_count: int = 0
    steps_messages: list[JsonValue] | None = None
    run_ids: list[str] | None = None
    agent_id: str | None = None
    processed_at: str | None = None  # RFC 3339
    status: str = "done"
    model_names: list[str] = Field(default_factory=list)


ReplyMessage = Annotated[
    UserMessage | ReasoningMessage | ToolCallMessage | ToolReturnMessage | AssistantMessage | UsageStatistics,
    Field(discriminator="message_type"),
]
