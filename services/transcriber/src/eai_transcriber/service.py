"""Puts the transcriber together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_common.messages import MessageAudio
from eai_common.service import CommonSettings, Parts, Service, ServiceDefinition
from eai_common.stage import Stage, on
from eai_transcriber.settings import AudioSettings, SpeechSettings
from eai_transcriber.wiring import open_transcriber

__all__ = ["TRANSCRIBER", "Settings"]


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Everything that the transcriber reads."""

    audio: AudioSettings
    speech: SpeechSettings


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    async with open_transcriber(
        settings.audio, settings.speech, redis=parts.redis, clock=parts.clock, metrics=parts.metrics
    ) as transcribe:
        yield Service(stages=[Stage("transcriber", (on(MessageAudio, transcribe),))])


TRANSCRIBER = ServiceDefinition("transcriber", Settings, _build)
"""Turns voice messages into text."""
