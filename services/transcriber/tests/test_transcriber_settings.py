"""What the transcriber is told, and what it refuses to be told."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest

from eai_common.registry import list_provider_names
from eai_common.settings import SettingsError
from eai_transcriber.settings import AudioSettings, Provider, SpeechSettings, build_limits


def audio(**environ: str) -> AudioSettings:
    read = AudioSettings.read(environ)
    assert isinstance(read, AudioSettings)
    return read


def speech(**environ: str) -> SpeechSettings:
    read = SpeechSettings.read(environ)
    assert isinstance(read, SpeechSettings)
    return read


def test_an_empty_environment_allows_every_public_host_and_nothing_inside() -> None:
    policy = audio().policy
    assert (policy.allowed_hosts, policy.allowed_networks, policy.allow_http) == ((), (), True)


def test_the_predecessors_names_are_read() -> None:
    told = audio(
        TRANSCRIBE_ALLOWED_URLS="https://media.example.org/, .whatsapp.net",
        TRANSCRIBE_MAX_DURATION="5m",
        MAX_AUDIO_SIZE_MB="2",
        UPLOAD_TIMEOUT_SECONDS="30",
    )
    found = build_limits(told, speech(GOOGLE_PROJECT_ID="p"))
    assert [rule.host for rule in told.policy.allowed_hosts] == ["media.example.org", ".whatsapp.net"]
    assert (found.longest, found.download) == (timedelta(minutes=5), timedelta(seconds=30))
    assert found.largest_bytes == told.policy.max_bytes == 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRANSCRIBE_ALLOWED_URLS", "https://media.example.org/only/here"),
        ("TRANSCRIBE_ALLOWED_NETWORKS", "loopback"),
        ("TRANSCRIBE_ALLOWED_NETWORKS", "127.0.0.1/8"),
        ("MAX_AUDIO_SIZE_MB", "0"),
        ("TRANSCRIBE_MAX_DURATION", "long"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        audio(**{variable: value})


def test_google_needs_a_project_unless_a_sandbox_answers() -> None:
    with pytest.raises(SettingsError, match="GOOGLE_PROJECT_ID"):
        speech()
    assert speech(SPEECH_ENDPOINT="127.0.0.1:9").google.is_local


def test_an_openai_compatible_service_needs_its_address() -> None:
    with pytest.raises(SettingsError, match="OPENAI_TRANSCRIPTION_URL"):
        speech(SPEECH_PROVIDERS="openai")


@pytest.mark.parametrize("value", ["whisper", "google,whisper", ","])
def test_a_provider_that_does_not_exist_is_a_start_up_error(value: str) -> None:
    with pytest.raises(SettingsError, match="SPEECH_PROVIDERS"):
        speech(SPEECH_PROVIDERS=value, GOOGLE_PROJECT_ID="p")


def test_speech_may_live_in_another_region_than_the_agent() -> None:
    told = speech(GOOGLE_PROJECT_ID="p", GOOGLE_REGION="us-central1", SPEECH_REGION="global")
    assert told.google.host == "speech.googleapis.com"


def test_the_language_of_whisper_is_the_first_without_its_region() -> None:
    told = speech(SPEECH_PROVIDERS="openai", OPENAI_TRANSCRIPTION_URL="http://w/v1", SPEECH_LANGUAGES="pt-BR,en-US")
    assert told.openai.language == "pt"


def test_what_tells_transcripts_apart_holds_all_that_shapes_the_words_and_no_secret() -> None:
    told = speech(
        GOOGLE_PROJECT_ID="p",
        SPEECH_MODEL="chirp_2",
        SPEECH_LANGUAGES="pt-BR,es-419",
        SPEECH_PHRASES="IPTU",
        GOOGLE_APPLICATION_CREDENTIALS="{secret}",
        SPEECH_PROVIDERS="google,openai",
        OPENAI_TRANSCRIPTION_URL="http://w/v1",
        OPENAI_TRANSCRIPTION_KEY="secret",
    )
    google, openai = told.variant("google"), told.variant("openai")
    assert all(word in google for word in ("google", "chirp_2", "es-419", "IPTU", "us-central1"))
    assert all(word in openai for word in ("openai", "whisper-1", "pt", "IPTU", "http://w/v1"))
    assert "secret" not in google + openai


def test_googles_limit_is_on_unless_it_is_0_and_another_services_is_off() -> None:
    told = speech(GOOGLE_PROJECT_ID="p")
    assert told.rate_limit("google") == 100
    assert told.rate_limit("openai") == 0
    assert speech(GOOGLE_PROJECT_ID="p", GOOGLE_API_RATE_LIMIT="0").rate_limit("google") == 0


def test_every_recogniser_is_registered() -> None:
    assert {f"{name}_speech" for name in get_args(Provider)} == set(list_provider_names("speech"))
