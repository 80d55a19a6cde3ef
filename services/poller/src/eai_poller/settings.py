"""What the poller is told: nothing of its own yet, the common groups say it all."""

from __future__ import annotations

from dataclasses import dataclass

from eai_common.service import CommonSettings

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Everything that the poller reads."""
