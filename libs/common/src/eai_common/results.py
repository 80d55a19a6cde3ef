"""How a message ended, as clients are told: stored by the formatter, handed out as stored, held to this by a test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from eai_common.messages import MessageType
from eai_common.replies import ReplyMessage

__all__ = ["CompletedAnswer", "FailedAnswer", "ResultAnswer", "TurnData"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class TurnData(_Body):
    """The turn as clients of the predecessor know it."""

    messages: list[ReplyMessage] = Field(
        description="What the agent said and did, closed by one `usage_statistics`; the text is in the last "
        "`assistant_message`."
    )
    agent_id: str
    processed_at: str = Field(description="The message id; the predecessor put it here.")
    status: str = Field(examples=["done"])


class _Result(_Body):
    message_id: str | None = None
    content: str = Field(description="The reply for the user, whole.")
    contents: list[str] = Field(description="The reply in pieces that the channel can send.")
    thread_id: str = Field(description="The user's number.", examples=["+5521999999999"])
    processing_time_ms: int = Field(ge=0)
    message_type: MessageType
    transcript: str | None = Field(default=None, description="What was said, if it was audio.")
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="The client's own, as it was sent.")
    data: TurnData


class CompletedAnswer(_Result):
    """The agent has answered."""

    status: Literal["completed"]


class FailedAnswer(_Result):
    """Nobody could answer; `content` has friendly words for the user."""

    status: Literal["failed"]
    error: str
    error_code: str = Field(description="Stable, for programs.", examples=["TRANSCRIPTION_ERROR"])
    retry_after: int | None = Field(
        default=None, description="Seconds after which sending the message again can help; absent when it cannot."
    )


class ResultAnswer(RootModel[Annotated[CompletedAnswer | FailedAnswer, Field(discriminator="status")]]):
    """How the message ended."""
