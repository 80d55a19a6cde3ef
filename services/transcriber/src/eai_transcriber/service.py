"""Puts the transcriber together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_common.messages import MessageAudio
from eai_common.process import BrokerResources, CommonSettings, Service, ServiceDefinition
from eai_common.settings import OrderingSettings
from eai_common.stage import MailboxEndObserver, Stage, handler_for
from eai_common.store import Mailboxes
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
        yield Service(
            stages=[
                Stage(
                    "transcriber",
                    (handler_for(MessageAudio, transcribe),),
                    end_observer=_end_observer(settings, resources),
                )
            ]
        )


def _end_observer(settings: Settings, resources: BrokerResources) -> MailboxEndObserver | None:
    """Who wakes a user's next message when a voice message is given up here, and never reaches the agent router."""
    if not settings.ordering.ordering_enabled:
        return None
    mailboxes = Mailboxes(resources.redis, settings.tasks.task_processing_ttl)
    return MailboxEndObserver(mailboxes, resources.broker, resources.clock, resources.ids.random_id)


TRANSCRIBER = ServiceDefinition("transcriber", Settings, BrokerResources, _build)
"""Turns voice messages into text."""
