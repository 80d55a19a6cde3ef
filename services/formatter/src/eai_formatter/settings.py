"""What the formatter is told."""

from __future__ import annotations

from dataclasses import dataclass

from eai_common.service import CommonSettings
from eai_formatter.callbacks import CallbackSettings

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Everything that the formatter reads."""

    callbacks: CallbackSettings
