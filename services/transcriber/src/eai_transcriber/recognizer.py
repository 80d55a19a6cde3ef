"""The port to whatever turns speech into text, and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol

from eai_common.clock import Deadline

__all__ = ["Audio", "Recognizer", "SoundFormat", "Takes", "Transcript"]


class SoundFormat(Enum):
    """A container and the codec in it, for those that some recogniser reads by itself; the value is its media type."""

    WAV_LINEAR16 = "audio/wav"
    WAV_MULAW = "audio/x-wav; codec=mulaw"
    WAV_ALAW = "audio/x-wav; codec=alaw"
    FLAC = "audio/flac"
    MP3 = "audio/mpeg"
    OGG_OPUS = "audio/ogg; codecs=opus"
    WEBM_OPUS = "audio/webm; codecs=opus"
    MP4_AAC = "audio/mp4"
    AMR = "audio/amr"
    AMR_WB = "audio/amr-wb"


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording that a recogniser takes in one call: a whole file, so it says itself what it is."""

    content: bytes
    sound_format: SoundFormat
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Takes:
    """What one call to a recogniser may carry. Everything takes WAV_LINEAR16: it is what others are turned into."""

    formats: frozenset[SoundFormat]
    longest: timedelta
    largest_bytes: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `text` is empty if nothing was. `confidence` from 0 to 1, None if the recogniser gave none."""

    text: str
    confidence: float | None = None

    @classmethod
    def joined(cls, parts: Sequence[Transcript]) -> Transcript:
        """The parts in their order as one; a long part weighs more in the confidence than a short one."""
        spoken = [part for part in parts if part.text]
        rated = [(part.confidence, len(part.text)) for part in spoken if part.confidence is not None]
        weight = sum(length for _, length in rated)
        confidence = sum(rating * length for rating, length in rated) / weight if weight else None
        return cls(" ".join(part.text for part in spoken), confidence)


class Recognizer(Protocol):
    """Turns speech into text. Every adapter passes `RecognizerContract`."""

    @property
    def takes(self) -> Takes:
        """What a call may carry; a caller cuts and converts to fit."""

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        """What is said in one piece of audio that fits `takes`; silence is an empty transcript.

        Raises TranscriptionError or ProviderMisconfigured (permanent), RateLimited, ProviderTimeout or
        TranscriptionUnavailable (retriable).
        """
