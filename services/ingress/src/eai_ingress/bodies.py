"""What ingress answers with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AcceptedAnswer"]


class AcceptedAnswer(BaseModel):
    """The message is in the pipeline."""

    model_config = ConfigDict(frozen=True)

    message_id: str = Field(description="What to fetch the answer by.", json_schema_extra={"format": "uuid"})
    status: Literal["queued", "processing"]
    estimated_wait_time: str = Field(description="From what recent messages took.", examples=["2-5 seconds"])
    polling_endpoint: str = Field(description="Where the answer will be; the same as the header `Location`.")
