"""The OpenAI adapter: the contract against the sandbox, and the table of its statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from eai_common.clock import Deadline
from eai_common.errors import Permanent, Retriable
from eai_common.testing import pass_time
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.openai_speech import OpenAISpeech, OpenAISpeechOptions, open_openai_speech
from eai_transcriber.recognizer import Audio, SoundFormat
from eai_transcriber.testing import Provider, RecognizerContract, encoded

AUDIO = Audio(b"whatever", SoundFormat.OGG_OPUS, timedelta(seconds=1))
OPTIONS = OpenAISpeechOptions("http://whisper.example/v1/", key="k", prompt="IPTU")


class SandboxedOpenAI(Provider):
    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox

    async def fail(self, status: int, *, retry_after_s: float | None = None) -> None:
        await self._sandbox.spoil("openai", "status", status=status, retry_after_s=retry_after_s)

    async def hang(self) -> None:
        await self._sandbox.spoil("openai", "hang")

    async def calls(self) -> int:
        return int(await self._sandbox.calls())


class TestOpenAISpeech(RecognizerContract):
    says = "today is monday"
    gives_confidence = False  # the JSON answer has a text and nothing else

    @pytest.fixture()
    async def recognizer(self, sandbox: Any) -> AsyncIterator[OpenAISpeech]:
        async with open_openai_speech(OpenAISpeechOptions(f"{sandbox.http_url}/v1")) as adapter:
            yield adapter

    @pytest.fixture()
    def provider(self, sandbox: Any) -> Provider:
        return SandboxedOpenAI(sandbox)

    @pytest.fixture()
    def speech(self, recording: bytes) -> Audio:
        return Audio(encoded(recording, "flac", "flac"), SoundFormat.FLAC, timedelta(seconds=2.4))


def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=5))


def answering(response: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> OpenAISpeech:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(response, Exception):
            raise response
        return response

    return OpenAISpeech(httpx.AsyncClient(transport=httpx.MockTransport(answer)), OPTIONS)


# Every status of the IANA registry beside 200, and what is seen beyond it.
PIECE_REFUSED = {400, 406, 411, 413, 414, 415, 416, 422}
MAY_PASS = {408, 409, 423, 425, 500, 502, 503, 504, 507, 508, 520, 522, 529, 599}
STATUSES = {status.value for status in HTTPStatus if status.value > 200} | MAY_PASS


def error_for(status: int) -> type[Permanent | Retriable]:
    if status == 429:
        return RateLimited
    if status in MAY_PASS:
        return TranscriptionUnavailable
    return TranscriptionError if status in PIECE_REFUSED else ProviderMisconfigured


@pytest.mark.parametrize("status", sorted(STATUSES))
async def test_every_status_is_classified(status: int) -> None:
    with pytest.raises(error_for(status), match=str(status)):
        await answering(httpx.Response(status)).transcribe(AUDIO, deadline=soon())


async def test_a_quota_that_somebody_has_to_pay_for_is_the_operators_affair() -> None:
    spent = httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "…"}})
    with pytest.raises(ProviderMisconfigured):
        await answering(spent).transcribe(AUDIO, deadline=soon())


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(200, text="<html>"), TranscriptionUnavailable),
        (httpx.Response(200, json={"words": []}), TranscriptionUnavailable),
        (httpx.Response(200, json={"text": None}), TranscriptionUnavailable),
        (httpx.Response(200), TranscriptionUnavailable),
        (httpx.ConnectError("refused"), TranscriptionUnavailable),
        (httpx.RemoteProtocolError("cut"), TranscriptionUnavailable),
        (httpx.ReadError("reset"), TranscriptionUnavailable),
        (httpx.ReadTimeout("slow"), ProviderTimeout),
        (httpx.ConnectTimeout("slow"), ProviderTimeout),
    ],
    ids=str,
)
async def test_what_is_no_answer_may_be_one_later(
    response: httpx.Response | Exception, error: type[Permanent | Retriable]
) -> None:
    with pytest.raises(error):
        await answering(response).transcribe(AUDIO, deadline=soon())


async def test_the_request_is_a_form_with_a_file_whose_name_says_its_format() -> None:
    seen: list[httpx.Request] = []
    await answering(httpx.Response(200, json={"text": " olá "}), seen).transcribe(AUDIO, deadline=soon())
    (request,) = seen
    body = request.content.decode()
    assert str(request.url) == "http://whisper.example/v1/audio/transcriptions"
    assert request.headers["authorization"] == "Bearer k"
    assert 'filename="audio.ogg"' in body
    assert 'name="language"\r\n\r\npt' in body
    assert 'name="prompt"\r\n\r\nIPTU' in body


class Dripping(httpx.AsyncByteStream):
    """A body that comes byte by byte, each in time, and never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await pass_time(timedelta(seconds=1))
            yield b" "


@pytest.mark.virtual_time()
async def test_an_answer_that_comes_byte_by_byte_ends_at_the_deadline() -> None:
    speech = answering(httpx.Response(200, stream=Dripping()))
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(ProviderTimeout):
        await speech.transcribe(AUDIO, deadline=Deadline.after(timedelta(seconds=5)))
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(5)
