"""The port to whatever turns speech into text, and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol

from eai_common.clock import Deadline

__all__ = ["Audio", "Recognizer", "SoundFormat", "AcceptedAudio", "Transcript"]


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
    """A recording that a recogniser accepts in one call: a whole file, with its own header."""

    content: bytes
    sound_format: SoundFormat
    duration: timedelta


@dataclass(frozen=True, slots=True)
class AcceptedAudio:
    """What one call to a recogniser may carry. All accept WAV_LINEAR16: other formats are converted to it."""

    formats: frozenset[SoundFormat]
    longest: timedelta
    largest_bytes: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; `text` is empty if nothing was. `confidence` is from 0 to 1, None if the recogniser gives none."""

    text: str
    confidence: float | None = None

    @classmethod
    def join(cls, parts: Sequence[Transcript]) -> Transcript:
        """Return the parts in their order as one; a long part weighs more in the confidence than a short one."""
        spoken = [part for part in parts if part.text]
        rated = [(part.confidence, len(part.text)) for part in spoken if part.confidence is not None]
        weight = sum(length for _, length in rated)
        confidence = sum(rating * length for rating, length in rated) / weight if weight else None
        return cls(" ".join(part.text for part in spoken), confidence)


class Recognizer(Protocol):
    """Turns speech into text. Every adapter passes `RecognizerContract`."""

    @property
    def accepts(self) -> AcceptedAudio:
        """What a call may carry; the caller cuts and converts to fit."""

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        """Return what is said in one piece of audio that fits `accepts`; silence is an empty transcript.

        Raises TranscriptionError or ProviderMisconfigured (permanent), RateLimited, ProviderTimeout or
        TranscriptionUnavailable (retriable).
        """
