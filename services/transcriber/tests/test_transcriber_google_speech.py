"""The Google adapter: against the sandbox the contract, against a scripted server every answer there is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.speech_v2.types import (
    RecognizeResponse,
    SpeechRecognitionAlternative,
    SpeechRecognitionResult,
)

from eai_common.clock import Deadline
from eai_common.errors import Permanent, Retriable
from eai_common.settings import SettingsError
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.google_speech import GoogleSpeech, GoogleSpeechOptions, open_google_speech
from eai_transcriber.recognizer import Audio, SoundFormat, Transcript
from eai_transcriber.testing import Provider, RecognizerContract, encoded

AUDIO = Audio(b"whatever", SoundFormat.OGG_OPUS, timedelta(seconds=1))


class SandboxedSpeech(Provider):
    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox

    async def fail(self, status: int, *, retry_after_s: float | None = None) -> None:
        await self._sandbox.spoil("speech", "status", status=status, retry_after_s=retry_after_s)

    async def hang(self) -> None:
        await self._sandbox.spoil("speech", "hang")

    async def calls(self) -> int:
        return int(await self._sandbox.calls())


class TestGoogleSpeech(RecognizerContract):
    says = "today is monday"

    @pytest.fixture()
    async def recognizer(self, sandbox: Any) -> AsyncIterator[GoogleSpeech]:
        async with open_google_speech(GoogleSpeechOptions(project="p", endpoint=sandbox.grpc_target)) as adapter:
            yield adapter

    @pytest.fixture()
    def provider(self, sandbox: Any) -> Provider:
        return SandboxedSpeech(sandbox)

    @pytest.fixture()
    def speech(self, recording: bytes) -> Audio:
        return Audio(encoded(recording, "flac", "flac"), SoundFormat.FLAC, timedelta(seconds=2.4))


@pytest.fixture()
async def google(speech_server: Any) -> AsyncIterator[GoogleSpeech]:
    options = GoogleSpeechOptions(project="p", location="southamerica-east1", endpoint=speech_server.target)
    async with open_google_speech(options) as adapter:
        yield adapter


def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=5))


def heard(*parts: tuple[str, float]) -> RecognizeResponse:
    return RecognizeResponse(
        results=[
            SpeechRecognitionResult(alternatives=[SpeechRecognitionAlternative(transcript=text, confidence=rating)])
            for text, rating in parts
        ]
    )


CODES = {
    grpc.StatusCode.CANCELLED: TranscriptionUnavailable,
    grpc.StatusCode.UNKNOWN: TranscriptionUnavailable,
    grpc.StatusCode.INVALID_ARGUMENT: TranscriptionError,
    grpc.StatusCode.DEADLINE_EXCEEDED: ProviderTimeout,
    grpc.StatusCode.NOT_FOUND: ProviderMisconfigured,
    grpc.StatusCode.ALREADY_EXISTS: TranscriptionError,
    grpc.StatusCode.PERMISSION_DENIED: ProviderMisconfigured,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.FAILED_PRECONDITION: ProviderMisconfigured,
    grpc.StatusCode.ABORTED: TranscriptionUnavailable,
    grpc.StatusCode.OUT_OF_RANGE: TranscriptionError,
    grpc.StatusCode.UNIMPLEMENTED: ProviderMisconfigured,
    grpc.StatusCode.INTERNAL: TranscriptionUnavailable,
    grpc.StatusCode.UNAVAILABLE: TranscriptionUnavailable,
    grpc.StatusCode.DATA_LOSS: TranscriptionUnavailable,
    grpc.StatusCode.UNAUTHENTICATED: ProviderMisconfigured,
}


def test_the_table_of_codes_leaves_none_out() -> None:
    assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize(("code", "error"), CODES.items(), ids=[code.name for code in CODES])
async def test_every_grpc_code_is_classified(
    google: GoogleSpeech, speech_server: Any, code: grpc.StatusCode, error: type[Permanent | Retriable]
) -> None:
    speech_server.answers = [code]
    with pytest.raises(error, match=code.name):
        await google.transcribe(AUDIO, deadline=soon())


async def test_one_call_is_one_request_because_the_broker_repeats(google: GoogleSpeech, speech_server: Any) -> None:
    speech_server.answers = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(TranscriptionUnavailable):
        await google.transcribe(AUDIO, deadline=soon())
    assert len(speech_server.requests) == 1


async def test_the_wait_that_retry_info_asks_for_is_kept(google: GoogleSpeech, speech_server: Any) -> None:
    speech_server.answers, speech_server.retry_after_s = [grpc.StatusCode.UNAVAILABLE], 42
    with pytest.raises(TranscriptionUnavailable) as caught:
        await google.transcribe(AUDIO, deadline=soon())
    assert caught.value.retry_after == timedelta(seconds=42)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with open_google_speech(GoogleSpeechOptions(project="p", endpoint="127.0.0.1:1")) as adapter:
        with pytest.raises(TranscriptionUnavailable):
            await adapter.transcribe(AUDIO, deadline=soon())


async def test_the_stretches_of_an_answer_are_joined_and_the_longer_weighs_more(
    google: GoogleSpeech, speech_server: Any
) -> None:
    speech_server.answers = [heard(("Bom dia.", 0.5), (" ", 0.0), (" Quero a segunda via do boleto.", 1.0))]
    found = await google.transcribe(AUDIO, deadline=soon())
    assert found.text == "Bom dia. Quero a segunda via do boleto."
    assert found.confidence == pytest.approx(0.895, abs=0.001)


async def test_a_confidence_of_zero_means_that_google_gave_none(google: GoogleSpeech, speech_server: Any) -> None:
    speech_server.answers = [heard(("Bom dia.", 0.0))]
    assert await google.transcribe(AUDIO, deadline=soon()) == Transcript("Bom dia.", None)


async def test_a_result_without_alternatives_is_left_out(google: GoogleSpeech, speech_server: Any) -> None:
    speech_server.answers = [RecognizeResponse(results=[SpeechRecognitionResult()])]
    assert await google.transcribe(AUDIO, deadline=soon()) == Transcript("", None)


async def test_the_request_says_all_that_was_configured(speech_server: Any) -> None:
    options = GoogleSpeechOptions(
        project="rio",
        location="us",
        endpoint=speech_server.target,
        languages=("pt-BR", "en-US"),
        model="chirp_2",
        phrases=("Rua da Carioca", "IPTU"),
    )
    async with open_google_speech(options) as adapter:
        await adapter.transcribe(AUDIO, deadline=soon())
    (request,) = speech_server.requests
    hints = request.config.adaptation.phrase_sets[0].inline_phrase_set.phrases
    assert request.recognizer == "projects/rio/locations/us/recognizers/_"
    assert (list(request.config.language_codes), request.config.model) == (["pt-BR", "en-US"], "chirp_2")
    assert [hint.value for hint in hints] == ["Rua da Carioca", "IPTU"]
    assert request.config.features.enable_automatic_punctuation
    assert "auto_decoding_config" in request.config
    assert request.content == AUDIO.content


@pytest.mark.parametrize(
    ("options", "host", "is_local"),
    [
        (GoogleSpeechOptions("p"), "speech.googleapis.com", False),
        (GoogleSpeechOptions("p", location="us-central1"), "us-central1-speech.googleapis.com", False),
        (GoogleSpeechOptions("p", endpoint="localhost:9000"), "localhost:9000", True),
        (GoogleSpeechOptions("p", endpoint="127.0.0.1:9000"), "127.0.0.1:9000", True),
        (GoogleSpeechOptions("p", endpoint="[::1]:9000"), "[::1]:9000", True),
        (GoogleSpeechOptions("p", endpoint="sandbox:9000"), "sandbox:9000", False),
        (GoogleSpeechOptions("p", endpoint="sandbox:9000", sandbox_host="sandbox"), "sandbox:9000", True),
        (GoogleSpeechOptions("p", sandbox_host="sandbox"), "speech.googleapis.com", False),
        (GoogleSpeechOptions("p", endpoint="127.0.0.1.evil.example:9000"), "127.0.0.1.evil.example:9000", False),
        (GoogleSpeechOptions("p", endpoint="localhost.evil.example:9000"), "localhost.evil.example:9000", False),
    ],
)
def test_only_an_endpoint_on_this_machine_goes_without_tls(
    options: GoogleSpeechOptions, host: str, is_local: bool
) -> None:
    assert (options.host, options.is_local) == (host, is_local)


@pytest.mark.parametrize(
    "given",
    ["/nowhere/key.json", "{not json", '{"type": "service_account"}', '{"a": 1}', "[]", '{"type": "authorized_user"}'],
)
async def test_credentials_that_cannot_be_read_are_an_error_at_the_start_that_does_not_show_them(given: str) -> None:
    with pytest.raises(SettingsError) as caught:
        async with open_google_speech(GoogleSpeechOptions("p", credentials=given)):
            pass
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
    assert given not in str(caught.value)


@pytest.mark.parametrize("as_path", [True, False], ids=["a path", "the JSON itself"])
async def test_a_service_accounts_key_is_taken_as_a_path_or_as_json(as_path: bool, tmp_path: Path) -> None:
    key = _service_account_key()
    path = tmp_path / "key.json"
    await asyncio.to_thread(path.write_text, key)
    given = str(path) if as_path else key
    async with open_google_speech(GoogleSpeechOptions("p", credentials=given)) as adapter:
        assert isinstance(adapter, GoogleSpeech)


def _service_account_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


def test_importing_the_transcriber_does_not_import_googles_client() -> None:
    check = "import sys, eai_transcriber.wiring; sys.exit(bool({'google.cloud.speech_v2', 'grpc'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
