"""The result of a message as clients get it. The formatter stores it, the poller returns it; a test checks both."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from eai_common.messages import MessageType
from eai_common.replies import ReplyMessage

__all__ = ["CompletedAnswer", "FailedAnswer", "ResultAnswer", "TurnData"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class TurnData(_Body):
    """The turn, in the shape of the previous gateway."""

    messages: list[ReplyMessage] = Field(
        description="The agent's messages and tool calls, one `usage_statistics` last. The text for the user is in the "
        "last `assistant_message`."
    )
    agent_id: str
    processed_at: str = Field(description="The message id. The name is historical.")
    status: str = Field(examples=["done"])


class _Result(_Body):
    message_id: str | None = None
    content: str = Field(description="The whole reply for the user.")
    contents: list[str] = Field(description="The reply split into pieces that the channel can send.")
    thread_id: str = Field(description="The user's number.", examples=["+5521999999999"])
    processing_time_ms: int = Field(ge=0)
    message_type: MessageType
    transcript: str | None = Field(default=None, description="The transcript, if the message was audio.")
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="The client's own data, as sent.")
    data: TurnData


class CompletedAnswer(_Result):
    """The agent answered."""

    status: Literal["completed"]


class FailedAnswer(_Result):
    """The message failed; `content` is a friendly text for the user."""

    status: Literal["failed"]
    error: str
    error_code: str = Field(description="Stable and machine-readable.", examples=["TRANSCRIPTION_ERROR"])
    retry_after: int | None = Field(
        default=None, description="Seconds after which sending the message again may succeed; absent if it cannot."
    )


class ResultAnswer(RootModel[Annotated[CompletedAnswer | FailedAnswer, Field(discriminator="status")]]):
    """The result of the message."""
