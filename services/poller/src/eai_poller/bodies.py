"""The bodies of the poller's answers other than results."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ActivityAnswer", "ProcessingAnswer"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class ProcessingAnswer(_Body):
    """The message is being processed."""

    status: Literal["processing"] = "processing"
    message: str = "Your message is being processed"
    stage: str = Field(description="The service that has the message, or that it waits for.", examples=["agent-router"])


class ActivityAnswer(_Body):
    """When a user last wrote."""

    user_number: str
    last_message_timestamp: str = Field(json_schema_extra={"format": "date-time"})
    cached: Literal[True] = True
    ttl_seconds: int = Field(ge=0, description="How long this is kept.")
