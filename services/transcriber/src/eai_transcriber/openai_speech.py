"""The adapter to OpenAI's transcription endpoint, and to the self-hosted Whisper servers that copy it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
from pydantic import BaseModel, ValidationError

from eai_common.clock import Clock, Deadline, SystemClock
from eai_common.errors import StageError
from eai_common.guards import deadline_scope, parse_retry_after
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript

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
# Sources: RFC 9110 for what a status means, and OpenAI's guide "Error codes": 401, 403 credentials or country, 429 rate
# or quota, 500 and 503 theirs. A status in neither set says that our address or credentials are wrong.
_ABOUT_THE_AUDIO = {400, 406, 411, 413, 414, 415, 416, 422}
_MAY_PASS = {408, 409, 423, 425, 500, 502, 503, 504, 507, 508, 529}  # 529: overloaded, not registered but in use
_SPENT = "insufficient_quota"  # a 429 that ends when the account is paid


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

    accepts = AcceptedAudio(frozenset(_EXTENSIONS), longest=timedelta(minutes=10), largest_bytes=24_000_000)

    def __init__(self, client: httpx.AsyncClient, options: OpenAISpeechOptions, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._options = options

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        async with deadline_scope(deadline, "the transcription service", ProviderTimeout):
            try:
                response = await self._post(audio)
            except httpx.TimeoutException as error:
                raise ProviderTimeout("the transcription service took too long") from error
            except httpx.TransportError as error:
                raise TranscriptionUnavailable(f"the transcription service: {type(error).__name__}") from error
        if response.status_code != 200:
            raise _classify(response, now=self._clock.now())
        return _read_transcript(response)

    async def _post(self, audio: Audio) -> httpx.Response:
        options, extension = self._options, _EXTENSIONS[audio.sound_format]
        form = {"model": options.model, "language": options.language, "response_format": "json"}
        return await self._client.post(
            f"{options.url.rstrip('/')}/audio/transcriptions",
            headers={"Authorization": f"Bearer {options.key}"} if options.key else {},
            data={**form, "prompt": options.prompt} if options.prompt else form,
            # With its type: else httpx looks for it in files of the system, which blocks the loop.
            files={"file": (f"audio.{extension}", audio.content, f"audio/{extension}")},
            timeout=None,  # httpx's would be one for each read, and a slow answer has many; the deadline ends it
        )


@asynccontextmanager
async def open_openai_speech(options: OpenAISpeechOptions, clock: Clock | None = None) -> AsyncIterator[OpenAISpeech]:
    """Open the adapter, with its connections."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield OpenAISpeech(client, options, clock)


def _read_transcript(response: httpx.Response) -> Transcript:
    try:
        return Transcript(_Answer.model_validate_json(response.content).text.strip())
    except ValidationError as error:
        raise TranscriptionUnavailable("the transcription service's answer holds no text") from error


def _classify(response: httpx.Response, *, now: datetime) -> StageError:
    status = response.status_code
    text = f"the transcription service answered {status}"
    pause = parse_retry_after(response.headers.get("retry-after"), now=now)
    if status == 429 and _SPENT not in response.text:
        return RateLimited(text, retry_after=pause)
    if status in _MAY_PASS or status > 511:
        return TranscriptionUnavailable(text, retry_after=pause)
    return TranscriptionError(text) if status in _ABOUT_THE_AUDIO else ProviderMisconfigured(text)
