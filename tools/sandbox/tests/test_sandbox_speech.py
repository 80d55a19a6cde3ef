"""Speech v2 through Google's own client, and the same recogniser behind the OpenAI-compatible route."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta
from typing import Any

import av
import httpx
import pytest
from google.api_core import exceptions
from google.cloud.speech_v2 import types

SAID = "where can i get a new passport"
RECOGNIZER = "projects/local/locations/us-central1/recognizers/_"
SILENT_SECOND = bytes(32_000)


def encoded(samples: bytes, container: str, codec: str, rate: int = 16_000) -> bytes:
    """16 kHz mono samples as a file of another kind."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = 16_000
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return out.getvalue()


def wav(samples: bytes) -> bytes:
    return encoded(samples, "wav", "pcm_s16le")


def samples_of(recording: bytes) -> bytes:
    return recording[44:]


def request(content: bytes, *, recognizer: str = RECOGNIZER, **changes: Any) -> types.RecognizeRequest:
    config: dict[str, Any] = {
        "auto_decoding_config": {},
        "language_codes": ["en-US"],
        "model": "long",
        **changes,
    }
    return types.RecognizeRequest(
        recognizer=recognizer,
        config=types.RecognitionConfig({k: v for k, v in config.items() if v is not None}),
        content=content,
    )


async def recognize(client: Any, asked: types.RecognizeRequest) -> types.RecognizeResponse:
    response: types.RecognizeResponse = await client.recognize(asked, retry=None, timeout=60)
    return response


def text_of(response: types.RecognizeResponse) -> str:
    return " ".join(result.alternatives[0].transcript for result in response.results)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        pytest.param("wav", "pcm_s16le", 16_000, id="WAV"),
        pytest.param("flac", "flac", 16_000, id="FLAC"),
        pytest.param("ogg", "libopus", 48_000, id="OGG with Opus"),
        pytest.param("mp3", "libmp3lame", 16_000, id="MP3"),
        pytest.param("ipod", "aac", 16_000, id="M4A"),
        pytest.param("webm", "libopus", 48_000, id="WebM"),
    ],
)
async def test_what_was_said_is_recognised_in_every_encoding(
    speech: Any, recording: bytes, container: str, codec: str, rate: int
) -> None:
    content = encoded(samples_of(recording), container, codec, rate)
    assert text_of(await recognize(speech, request(content))) == SAID


async def test_a_result_says_where_it_ends_in_what_language_and_how_sure_it_is(speech: Any, recording: bytes) -> None:
    response = await recognize(speech, request(recording))
    (result,) = response.results
    assert result.language_code == "en-us"
    assert 0 < result.alternatives[0].confidence <= 1
    ends_at: Any = result.result_end_offset  # a timedelta: proto-plus turns the declared Duration into one
    assert timedelta(seconds=2) < ends_at < timedelta(seconds=3.6)
    assert response.metadata.total_billed_duration == timedelta(seconds=4)


async def test_two_sentences_with_a_long_pause_are_two_results(speech: Any, recording: bytes) -> None:
    samples = samples_of(recording)
    response = await recognize(speech, request(wav(samples + SILENT_SECOND * 2 + samples)))
    assert [result.alternatives[0].transcript for result in response.results] == [SAID, SAID]


async def test_silence_has_no_results(speech: Any) -> None:
    assert not (await recognize(speech, request(wav(SILENT_SECOND * 3)))).results


async def test_headerless_samples_are_read_as_the_explicit_config_says(speech: Any, recording: bytes) -> None:
    explicit = {"encoding": "LINEAR16", "sample_rate_hertz": 16_000, "audio_channel_count": 1}
    asked = request(samples_of(recording), auto_decoding_config=None, explicit_decoding_config=explicit)
    assert text_of(await recognize(speech, asked)) == SAID


async def test_a_language_it_does_not_know_is_accepted_and_named_in_the_result(speech: Any, recording: bytes) -> None:
    response = await recognize(speech, request(recording, language_codes=["pt-BR"]))
    assert (text_of(response), response.results[0].language_code) == (SAID, "pt-br")


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        pytest.param(request(b"x", recognizer="recognizers/_"), exceptions.InvalidArgument, "resource", id="bad name"),
        pytest.param(
            request(b"x", recognizer=RECOGNIZER.replace("/_", "/mine")),
            exceptions.NotFound,
            "mine",
            id="not the default one",
        ),
        pytest.param(request(b""), exceptions.InvalidArgument, "empty", id="nothing"),
        pytest.param(request(b"x", language_codes=[]), exceptions.InvalidArgument, "language_codes", id="no language"),
        pytest.param(
            request(b"x", auto_decoding_config=None), exceptions.InvalidArgument, "decoding", id="no decoding"
        ),
        pytest.param(request(b"not audio" * 99), exceptions.InvalidArgument, "supported encoding", id="not audio"),
        pytest.param(request(wav(SILENT_SECOND * 61)), exceptions.InvalidArgument, "maximum of 60 seconds", id="61 s"),
        pytest.param(request(bytes(10 * 1024 * 1024 + 1)), exceptions.InvalidArgument, "exceeds the limit", id="10 MB"),
    ],
)
async def test_what_google_refuses_is_refused_in_its_words(
    speech: Any, asked: types.RecognizeRequest, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await recognize(speech, asked)


async def test_raw_aac_is_refused_because_google_does_not_detect_it(speech: Any, recording: bytes) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="supported encoding"):
        await recognize(speech, request(encoded(samples_of(recording), "adts", "aac")))


async def test_many_at_once_are_all_answered_while_the_server_goes_on_serving(
    speech: Any, process: dict[str, str], recording: bytes
) -> None:
    listening = [asyncio.create_task(recognize(speech, request(recording))) for _ in range(4)]
    async with httpx.AsyncClient(base_url=process["http"]) as http:
        assert (await http.get("/sandbox/health", timeout=1)).status_code == 200
    assert {text_of(await one) for one in listening} == {SAID}


async def test_a_caller_that_gives_up_does_not_disturb_the_next_one(speech: Any, recording: bytes) -> None:
    with pytest.raises(exceptions.DeadlineExceeded):
        await speech.recognize(request(recording), retry=None, timeout=0.1)
    assert text_of(await recognize(speech, request(recording))) == SAID


async def test_the_openai_route_transcribes_an_uploaded_file(process: dict[str, str], recording: bytes) -> None:
    async with httpx.AsyncClient(base_url=process["http"], timeout=60) as http:
        answer = await http.post(
            "/v1/audio/transcriptions",
            files={"file": ("question.wav", recording, "audio/wav")},
            data={"model": "whisper-1"},
        )
    assert answer.json() == {"text": SAID}


async def test_the_openai_route_refuses_a_file_that_is_no_audio(process: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=process["http"]) as http:
        answer = await http.post(
            "/v1/audio/transcriptions",
            files={"file": ("question.wav", b"--\r\n", "audio/wav")},
            data={"model": "whisper-1"},
        )
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
