"""The settings of the transcriber."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator
from pydantic_settings import NoDecode

from eai_common.outbound import AllowedHosts, OutboundPolicy
from eai_common.settings import AllowedNetworks, Duration, Group, Items, SandboxHost
from eai_transcriber.antivirus import ClamdSetting
from eai_transcriber.google_speech import GoogleSpeechOptions
from eai_transcriber.handler import Limits
from eai_transcriber.openai_speech import OpenAISpeechOptions

__all__ = ["AudioSettings", "Provider", "SpeechSettings", "build_limits"]

Provider = Literal["google", "openai"]
_SHAPES_NO_WORDS = {"credentials", "key", "project"}


def _names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Providers = Annotated[
    tuple[Provider, ...],
    NoDecode,
    BeforeValidator(_names),
    WithJsonSchema(
        {"type": "array", "takes": "google, openai, or both in the order to try them, separated by a comma"}
    ),
]


class AudioSettings(Group):
    """Voice messages: where they may come from and how big they may be."""

    transcribe_allowed_urls: AllowedHosts = Field(
        default=(),
        description="Hosts that recordings may be downloaded from. Empty: any host that has only public addresses.",
    )
    transcribe_allowed_networks: AllowedNetworks = Field(
        default=(),
        description="Private networks that recordings may be downloaded from, on any port.",
    )
    transcribe_max_duration: Duration = Field(default=timedelta(seconds=600), description="Longest voice message.")
    max_audio_size_mb: float = Field(default=25, gt=0, le=200, description="Largest voice message, in MiB.")
    upload_timeout_seconds: Duration = Field(
        default=timedelta(seconds=60), description="Timeout of the download of a recording, including redirects."
    )
    transcribe_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Voice messages that one process converts at a time; about the number of CPUs.",
    )

    clamd_address: ClamdSetting | None = Field(
        default=None,
        description="Address of ClamAV's clamd, which scans every recording. No recording skips the scan. Unset: "
        "no scan. Its StreamMaxLength must be MAX_AUDIO_SIZE_MB or more.",
    )
    clamd_timeout: Duration = Field(default=timedelta(seconds=30), description="Timeout of the scan of one recording.")

    @property
    def policy(self) -> OutboundPolicy:
        return OutboundPolicy(
            allow_http=True,
            allowed_hosts=self.transcribe_allowed_urls,
            allowed_networks=self.transcribe_allowed_networks,
            max_bytes=self.largest_bytes,
        )

    @property
    def largest_bytes(self) -> int:
        return int(self.max_audio_size_mb * 1024 * 1024)


class SpeechSettings(Group):
    """Who turns speech into text."""

    speech_providers: Providers = Field(
        default=("google",),
        min_length=1,
        description="The recognisers in order. If one is down, slow or out of quota, the next one is asked.",
    )
    speech_parallel: int = Field(
        default=4, ge=1, le=100, description="Pieces of one long voice message that are recognised at a time."
    )
    speech_timeout: Duration = Field(
        default=timedelta(seconds=60),
        description="Timeout of one call to a recogniser. After it the next one is asked, or the message is "
        "retried.",
    )
    speech_max_wait: Duration = Field(
        default=timedelta(minutes=10),
        validation_alias="SPEECH_PATIENCE",
        description="How long a message waits for a recogniser that is down or limited. After it, each further "
        "wait uses an attempt.",
    )
    google_api_rate_limit: int = Field(
        default=100,
        ge=0,
        description="Calls a minute to one service of Google, of all replicas together; 0: no limit.",
    )
    openai_transcription_rate_limit: int = Field(
        default=0,
        ge=0,
        description="Calls a minute to the OpenAI-compatible service, of all replicas together; 0: no limit.",
    )
    transcript_cache_ttl: Duration = Field(
        default=timedelta(hours=1),
        description="How long Redis keeps the transcript of a piece of audio, so that a retry or a forwarded "
        "recording is not paid for again; 0: not at all.",
    )
    speech_languages: Items = Field(
        default=("pt-BR",),
        min_length=1,
        description="Expected languages, the most likely first. Some models take only one.",
    )
    speech_phrases: Items = Field(
        default=(), description="Names and words that are likely to occur, such as street names."
    )
    speech_punctuation: bool = Field(default=True, description="Ask for punctuation if the model supports it.")
    speech_model: str = Field(default="long", description="Google's model, such as long, short or chirp_2.")
    speech_region: str = Field(
        default="", pattern=r"^[a-z0-9-]*$", description="Google's region for speech. Empty: GOOGLE_REGION."
    )
    speech_endpoint: str = Field(
        default="",
        description="host:port of an endpoint instead of Google's. On this machine (a sandbox) without TLS or "
        "credentials.",
    )
    sandbox_host: SandboxHost = ""
    google_project_id: str = Field(default="", description="Project of the calls, which also pays for them.")
    google_region: str = Field(
        default="us-central1", pattern=r"^[a-z0-9-]+$", description="Region of Google's services."
    )
    google_application_credentials: SecretStr = Field(
        default=SecretStr(""),
        description="Path of a service account's key, or the key's JSON. Empty: the identity of the machine.",
    )
    openai_transcription_url: str = Field(
        default="", description="Base URL of an OpenAI-compatible service, such as https://api.openai.com/v1."
    )
    openai_transcription_model: str = Field(default="whisper-1", description="Model of the OpenAI-compatible service.")
    openai_transcription_key: SecretStr = Field(
        default=SecretStr(""), description="Key of the OpenAI-compatible service. Empty for one that requires none."
    )

    @model_validator(mode="after")
    def _has_what_its_providers_need(self) -> SpeechSettings:
        if "google" in self.speech_providers and not (self.google_project_id or self.speech_endpoint):
            raise ValueError("GOOGLE_PROJECT_ID: is required, takes a project's id, when SPEECH_PROVIDERS has google")
        if "openai" in self.speech_providers and not self.openai_transcription_url:
            raise ValueError("OPENAI_TRANSCRIPTION_URL: is required, takes a URL, when SPEECH_PROVIDERS has openai")
        return self

    def rate_limit(self, provider: Provider) -> int:
        """Calls a minute to the provider; 0 for no limit."""
        return self.google_api_rate_limit if provider == "google" else self.openai_transcription_rate_limit

    def variant(self, provider: Provider) -> str:
        """All that shapes a provider's transcripts beside the audio; no secrets."""
        options = self.google if provider == "google" else self.openai
        shapes = {name: value for name, value in asdict(options).items() if name not in _SHAPES_NO_WORDS}
        return json.dumps([provider, shapes], sort_keys=True)

    @property
    def google(self) -> GoogleSpeechOptions:
        return GoogleSpeechOptions(
            project=self.google_project_id or "sandbox",
            location=self.speech_region or self.google_region,
            endpoint=self.speech_endpoint,
            sandbox_host=self.sandbox_host,
            credentials=self.google_application_credentials.get_secret_value(),
            languages=self.speech_languages,
            model=self.speech_model,
            phrases=self.speech_phrases,
            punctuation=self.speech_punctuation,
        )

    @property
    def openai(self) -> OpenAISpeechOptions:
        return OpenAISpeechOptions(
            url=self.openai_transcription_url,
            key=self.openai_transcription_key.get_secret_value(),
            model=self.openai_transcription_model,
            language=self.speech_languages[0].partition("-")[0].lower(),
            prompt=", ".join(self.speech_phrases),
        )


def build_limits(audio: AudioSettings, speech: SpeechSettings) -> Limits:
    """What one voice message may cost."""
    return Limits(
        largest_bytes=audio.largest_bytes,
        longest=audio.transcribe_max_duration,
        download=audio.upload_timeout_seconds,
        pieces_side_by_side=speech.speech_parallel,
        max_wait=speech.speech_max_wait,
    )
