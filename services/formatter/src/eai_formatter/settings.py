"""The settings of the formatter."""

from __future__ import annotations

from dataclasses import dataclass

from eai_common.process import CommonSettings
from eai_formatter.callbacks import CallbackSettings

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings(CommonSettings):
    """All settings of the formatter."""

    callbacks: CallbackSettings
