"""Builds the transcriber from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from eai_common.outbound import GuardedClient, Resolver, resolve_by_system
from eai_common.store import RedisClient, SlidingWindow
from eai_common.telemetry import Metrics
from eai_transcriber.antivirus import ClamAV
from eai_transcriber.cached import CachedRecognizer
from eai_transcriber.fallback import FallbackRecognizer
from eai_transcriber.google_speech import open_google_speech
from eai_transcriber.guarded import GuardResources, guard_recognizer
from eai_transcriber.handler import Transcribe
from eai_transcriber.openai_speech import open_openai_speech
from eai_transcriber.recognizer import Recognizer
from eai_transcriber.settings import AudioSettings, Provider, SpeechSettings, build_limits
from eai_transcriber.transcripts import TranscriptStore
from eai_transcriber.workers import Workers

__all__ = ["open_recognizer", "open_transcriber"]


@asynccontextmanager
async def open_transcriber(
    audio: AudioSettings,
    speech: SpeechSettings,
    *,
    redis: RedisClient,
    random: Random,
    metrics: Metrics,
    resolve: Resolver = resolve_by_system,
) -> AsyncIterator[Transcribe]:
    """The handler with everything it talks to open; closed in reverse order."""
    async with (
        open_recognizer(speech, redis=redis, random=random, metrics=metrics) as recognizer,
        GuardedClient(audio.policy, resolve=resolve) as downloads,
        Workers(audio.transcribe_workers) as workers,
    ):
        clamd = audio.clamd_address
        antivirus = None if clamd is None else ClamAV(clamd, longest=audio.clamd_timeout)
        yield Transcribe(downloads, recognizer, workers, build_limits(audio, speech), antivirus=antivirus)


@asynccontextmanager
async def open_recognizer(
    speech: SpeechSettings, *, redis: RedisClient, random: Random, metrics: Metrics
) -> AsyncIterator[Recognizer]:
    """The recogniser that the settings name, or several behind one."""
    async with AsyncExitStack() as stack:
        recognizers: list[Recognizer] = []
        for provider in speech.speech_providers:
            if provider == "google":
                opened: Recognizer = await stack.enter_async_context(open_google_speech(speech.google))
            else:
                opened = await stack.enter_async_context(open_openai_speech(speech.openai))
            recognizers.append(_guarded(opened, provider, speech, redis=redis, random=random, metrics=metrics))
        yield recognizers[0] if len(recognizers) == 1 else FallbackRecognizer(recognizers)


def _guarded(
    recognizer: Recognizer,
    provider: Provider,
    speech: SpeechSettings,
    *,
    redis: RedisClient,
    random: Random,
    metrics: Metrics,
) -> Recognizer:
    """Return the recogniser behind its guards, and a cache before them: a cached transcript needs no call."""
    resources = GuardResources(SlidingWindow(redis), random.random, metrics)
    guarded = guard_recognizer(
        recognizer,
        f"{provider}_speech",
        resources,
        timeout=speech.speech_timeout,
        calls_a_minute=speech.rate_limit(provider),
    )
    if not speech.transcript_cache_ttl:
        return guarded
    transcripts = TranscriptStore(redis, speech.transcript_cache_ttl)
    return CachedRecognizer(guarded, transcripts, variant=speech.variant(provider))
