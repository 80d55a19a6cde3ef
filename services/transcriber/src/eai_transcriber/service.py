"""Puts the transcriber together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_common.messages import MessageAudio, TranscriptionFailed
from eai_common.process import BrokerResources, CommonSettings, Service, ServiceDefinition
from eai_common.stage import Stage, handler_for
from eai_common.turns.settings import OrderingSettings
from eai_common.turns.store import InboxStore
from eai_transcriber.accepting import AcceptFirst
from eai_transcriber.settings import AudioSettings, SpeechSettings
from eai_transcriber.wiring import open_transcriber

__all__ = ["TRANSCRIBER", "Settings"]


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Everything that the transcriber reads."""

    audio: AudioSettings
    speech: SpeechSettings
    ordering: OrderingSettings


@asynccontextmanager
async def _build(settings: Settings, resources: BrokerResources) -> AsyncIterator[Service]:
    async with open_transcriber(
        settings.audio, settings.speech, redis=resources.redis, random=resources.random, metrics=resources.metrics
    ) as transcribe:
        inboxes = InboxStore(resources.redis, settings.ordering.rules, settings.tasks.task_processing_ttl)
        handler = AcceptFirst(transcribe, inboxes, settings.ordering)
        stage = Stage("transcriber", (handler_for(MessageAudio, handler),), failure=TranscriptionFailed)
        yield Service(stages=[stage])


TRANSCRIBER = ServiceDefinition("transcriber", Settings, BrokerResources, _build)
"""Turns voice messages into text."""
