"""What every recogniser must do, as one suite for its adapter to inherit; and recordings in any format."""

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import av
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from eai_common.clock import Deadline
from eai_common.testing import eventually
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.recognizer import Audio, Recognizer, SoundFormat

__all__ = ["Provider", "RecognizerContract", "encoded", "silence"]

SAMPLE_RATE = 16_000


def encoded(
    samples: bytes, container: str, codec: str, *, rate: int = SAMPLE_RATE, layout: str = "mono", bit_rate: int = 0
) -> bytes:
    """16-bit mono samples at 16 kHz as a file of another format. Raises TypeError for a codec that is not for audio."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        if not isinstance(stream, AudioStream):
            raise TypeError(f"{codec} is no audio codec")
        context = stream.codec_context
        if bit_rate:
            context.bit_rate = bit_rate
        context.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
        resampler = AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or 1024)
        for frame in (*_frames(samples), None):
            for resampled in resampler.resample(frame):
                output.mux(stream.encode(resampled))
        output.mux(stream.encode(None))
    return file.getvalue()


def silence(seconds: float) -> bytes:
    """16-bit mono samples at 16 kHz in which nothing is said."""
    return bytes(int(seconds * SAMPLE_RATE) * 2)


def _frames(samples: bytes) -> Iterator[AudioFrame]:
    for start in range(0, len(samples), SAMPLE_RATE * 2):
        part = samples[start : start + SAMPLE_RATE * 2]
        frame = AudioFrame(format="s16", layout="mono", samples=len(part) // 2)
        frame.sample_rate = SAMPLE_RATE
        frame.planes[0].update(part.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.pts = start // 2
        yield frame


class Provider(ABC):
    """The service behind an adapter, as the suite spoils it."""

    @abstractmethod
    async def fail(self, status: int, *, retry_after_s: float | None = None) -> None:
        """The next call meets this HTTP status, or the gRPC code that it stands for."""

    @abstractmethod
    async def hang(self) -> None:
        """The next call is not answered."""

    @abstractmethod
    async def calls(self) -> int:
        """How many calls it has got, answered or not."""


class RecognizerContract:
    """Inherit it and give the fixtures `recognizer`, `provider` and `speech` (a recording of `says`)."""

    says: ClassVar[str]
    gives_confidence: ClassVar[bool] = True
    gives_retry_after: ClassVar[bool] = True

    async def test_speech_becomes_the_words_that_were_said(self, recognizer: Recognizer, speech: Audio) -> None:
        assert (await recognizer.transcribe(speech, deadline=_within(30))).text.lower() == self.says

    async def test_confidence_lies_between_nothing_and_one(self, recognizer: Recognizer, speech: Audio) -> None:
        if not self.gives_confidence:
            pytest.skip("this service says nothing of its confidence")
        confidence = (await recognizer.transcribe(speech, deadline=_within(30))).confidence
        assert confidence is not None
        assert 0 < confidence <= 1

    async def test_silence_is_an_empty_transcript(self, recognizer: Recognizer) -> None:
        content = encoded(silence(1), "wav", "pcm_s16le")
        quiet = Audio(content, SoundFormat.WAV_LINEAR16, timedelta(seconds=1))
        assert (await recognizer.transcribe(quiet, deadline=_within(30))).text == ""

    async def test_what_others_are_turned_into_is_taken(self, recognizer: Recognizer) -> None:
        assert SoundFormat.WAV_LINEAR16 in recognizer.accepts.formats

    async def test_what_is_no_audio_is_refused_for_good(self, recognizer: Recognizer) -> None:
        page = Audio(b"<html>" * 100, SoundFormat.WAV_LINEAR16, timedelta(seconds=1))
        with pytest.raises(TranscriptionError):
            await recognizer.transcribe(page, deadline=_within(30))

    @pytest.mark.parametrize("status", [401, 403])
    async def test_refused_credentials_are_the_operators_affair(
        self, recognizer: Recognizer, provider: Provider, speech: Audio, status: int
    ) -> None:
        await provider.fail(status)
        with pytest.raises(ProviderMisconfigured):
            await recognizer.transcribe(speech, deadline=_within(5))

    async def test_a_used_up_quota_may_pass_when_the_provider_says(
        self, recognizer: Recognizer, provider: Provider, speech: Audio
    ) -> None:
        await provider.fail(429, retry_after_s=7)
        with pytest.raises(RateLimited) as caught:
            await recognizer.transcribe(speech, deadline=_within(5))
        assert caught.value.retry_after == (timedelta(seconds=7) if self.gives_retry_after else None)

    @pytest.mark.parametrize("status", [500, 503])
    async def test_a_provider_in_trouble_may_recover(
        self, recognizer: Recognizer, provider: Provider, speech: Audio, status: int
    ) -> None:
        await provider.fail(status)
        with pytest.raises(TranscriptionUnavailable):
            await recognizer.transcribe(speech, deadline=_within(5))

    async def test_a_provider_that_hangs_is_given_up_at_the_deadline(
        self, recognizer: Recognizer, provider: Provider, speech: Audio
    ) -> None:
        await provider.hang()
        with pytest.raises(ProviderTimeout):
            await recognizer.transcribe(speech, deadline=_within(0.3))

    async def test_a_deadline_that_has_passed_asks_nobody(self, recognizer: Recognizer, speech: Audio) -> None:
        with pytest.raises(ProviderTimeout):
            await recognizer.transcribe(speech, deadline=_within(0))

    async def test_a_call_can_be_cancelled(self, recognizer: Recognizer, provider: Provider, speech: Audio) -> None:
        await provider.hang()
        before = await provider.calls()

        async def is_asked() -> bool:
            return await provider.calls() > before

        call = asyncio.create_task(recognizer.transcribe(speech, deadline=_within(30)))
        await eventually(is_asked)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def _within(seconds: float) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))
