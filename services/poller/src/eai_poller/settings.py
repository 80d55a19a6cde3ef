"""The settings of the poller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from eai_common.process import CommonSettings
from eai_common.settings import Duration, Group

__all__ = ["PollerSettings", "Settings"]


class PollerSettings(Group):
    """How clients wait."""

    model_config = SettingsConfigDict(env_prefix="POLLER_")

    max_waiting: int = Field(
        default=5000,
        ge=0,
        le=100_000,
        description="How many clients may wait in one process, by long poll or event stream; further clients get 503. "
        "Each costs a connection and about 30 KB.",
    )
    heartbeat: Duration = Field(
        default=timedelta(seconds=15),
        description="How often an idle event stream sends a comment, so that no proxy closes it.",
    )


@dataclass(frozen=True)
class Settings(CommonSettings):
    """All settings of the poller."""

    poller: PollerSettings
