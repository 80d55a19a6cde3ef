"""The adapter to OpenAI's transcription endpoint, and to the self-hosted Whisper servers that copy it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
from pydantic import BaseModel, ValidationError

from eai_common.clock import Deadline
from eai_common.errors import StageError
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.recognizer import Audio, SoundFormat, Takes, Transcript

__all__ = ["OpenAISpeech", "OpenAISpeechOptions", "open_openai_speech"]

# Source: OpenAI API reference, "Create transcription": flac, mp3, mp4, mpeg, mpga, m4a, ogg, wav, webm; 25 MB at most.
# The extension of the file's name is what the service goes by.
_EXTENSIONS = {
    SoundFormat.WAV_LINEAR16: "wav",
    SoundFormat.FLAC: "flac",
    SoundFormat.MP3: "mp3",
    SoundFormat.OGG_OPUS: "ogg",
    SoundFormat.WEBM_OPUS: "webm",
    SoundFormat.MP4_AAC: "m4a",
}
_MISCONFIGURED = {401, 403, 404, 405}
_MAY_PASS = {408, 409, 425}


@dataclass(frozen=True, slots=True)
class OpenAISpeechOptions:
    """Where to ask, as whom, and for what."""

    url: str  # the base, such as https://api.openai.com/v1
    key: str = ""
    model: str = "whisper-1"
    language: str = "pt"  # ISO 639-1
    prompt: str = ""  # words to listen for


class _Answer(BaseModel):
    text: str


class OpenAISpeech:
    """Recognises with an OpenAI-compatible service, which says nothing of its confidence."""

    takes = Takes(frozenset(_EXTENSIONS), longest=timedelta(minutes=10), largest_bytes=24_000_000)

    def __init__(self, client: httpx.AsyncClient, options: OpenAISpeechOptions) -> None:
        self._client = client
        self._options = options

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        if deadline.has_passed:
            raise ProviderTimeout("the deadline passed before the transcription service was asked")
        options = self._options
        form = {"model": options.model, "language": options.language, "response_format": "json"}
        try:
            response = await self._client.post(
                f"{options.url.rstrip('/')}/audio/transcriptions",
                headers={"Authorization": f"Bearer {options.key}"} if options.key else {},
                data={**form, "prompt": options.prompt} if options.prompt else form,
                files={"file": (f"audio.{_EXTENSIONS[audio.sound_format]}", audio.content)},
                timeout=deadline.remaining_s(),
            )
        except httpx.TimeoutException as error:
            raise ProviderTimeout("the transcription service took too long") from error
        except httpx.TransportError as error:
            raise TranscriptionUnavailable(f"the transcription service: {type(error).__name__}") from error
        if response.status_code != 200:
            raise _classified(response)
        return _transcript(response)


@asynccontextmanager
async def open_openai_speech(options: OpenAISpeechOptions) -> AsyncIterator[OpenAISpeech]:
    """The adapter, with its connections."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield OpenAISpeech(client, options)


def _transcript(response: httpx.Response) -> Transcript:
    try:
        return Transcript(_Answer.model_validate_json(response.content).text.strip())
    except ValidationError as error:
        raise TranscriptionUnavailable("the transcription service's answer holds no text") from error


def _classified(response: httpx.Response) -> StageError:
    """Source: RFC 9110, and OpenAI's guide to error codes: 401 and 403 credentials, 429 rate or quota, 5xx theirs."""
    status = response.status_code
    text = f"the transcription service answered {status}"
    if status == 429:
        return RateLimited(text, retry_after=_retry_after(response))
    if status in _MAY_PASS or status >= 500:
        return TranscriptionUnavailable(text, retry_after=_retry_after(response))
    return ProviderMisconfigured(text) if status in _MISCONFIGURED else TranscriptionError(text)


def _retry_after(response: httpx.Response) -> timedelta | None:
    wish = response.headers.get("retry-after", "")
    return timedelta(seconds=min(int(wish), 3600)) if wish.isdecimal() and len(wish) < 10 else None
