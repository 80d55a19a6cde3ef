"""The bodies of ingress' answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AcceptedAnswer"]


class AcceptedAnswer(BaseModel):
    """The message is accepted."""

    model_config = ConfigDict(frozen=True)

    message_id: str = Field(description="The id to fetch the answer by.", json_schema_extra={"format": "uuid"})
    status: Literal["queued", "processing"]
    estimated_wait_time: str = Field(description="Estimated from recent messages.", examples=["2-5 seconds"])
    polling_endpoint: str = Field(description="Where to fetch the answer; the same as the header `Location`.")
