"""How the transcriber is put together from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from eai_common.outbound import GuardedClient, Resolver, resolve_by_system
from eai_common.telemetry import Metrics
from eai_transcriber.fallback import FirstThatAnswers
from eai_transcriber.google_speech import open_google_speech
from eai_transcriber.handler import Transcribe
from eai_transcriber.measured import MeasuredRecognizer
from eai_transcriber.openai_speech import open_openai_speech
from eai_transcriber.recognizer import Recognizer
from eai_transcriber.settings import AudioSettings, SpeechSettings, limits
from eai_transcriber.workers import Workers

__all__ = ["open_recognizer", "open_transcriber"]


@asynccontextmanager
async def open_transcriber(
    audio: AudioSettings, speech: SpeechSettings, metrics: Metrics, *, resolve: Resolver = resolve_by_system
) -> AsyncIterator[Transcribe]:
    """The handler with everything it talks to open; closed in reverse order."""
    async with (
        open_recognizer(speech, metrics) as recognizer,
        GuardedClient(audio.policy, resolve=resolve) as downloads,
        Workers(audio.transcribe_workers) as workers,
    ):
        yield Transcribe(downloads, recognizer, workers, limits(audio, speech))


@asynccontextmanager
async def open_recognizer(speech: SpeechSettings, metrics: Metrics) -> AsyncIterator[Recognizer]:
    """The recogniser that the settings name, or several behind one."""
    async with AsyncExitStack() as stack:
        recognizers: list[Recognizer] = []
        for provider in speech.speech_providers:
            if provider == "google":
                opened: Recognizer = await stack.enter_async_context(open_google_speech(speech.google))
            else:
                opened = await stack.enter_async_context(open_openai_speech(speech.openai))
            recognizers.append(MeasuredRecognizer(opened, provider, metrics))
        yield recognizers[0] if len(recognizers) == 1 else FirstThatAnswers(recognizers)
