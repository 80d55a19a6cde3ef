"""The adapter to Google Cloud Speech-to-Text v2, by gRPC.

The client library takes most of a second to import, so it is imported when the adapter is opened, not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from eai_common.clock import Deadline
from eai_common.errors import StageError
from eai_common.guards import deadline_scope
from eai_common.guards.google import is_sandbox, read_google_credentials, retry_delay
from eai_transcriber.errors import (
    ProviderMisconfigured,
    ProviderTimeout,
    RateLimited,
    TranscriptionError,
    TranscriptionUnavailable,
)
from eai_transcriber.recognizer import AcceptedAudio, Audio, SoundFormat, Transcript

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.speech_v2 import SpeechAsyncClient
    from google.cloud.speech_v2.types import RecognitionConfig, RecognizeResponse

__all__ = ["GoogleSpeech", "GoogleSpeechOptions", "open_google_speech"]

# Source: Speech-to-Text "Quotas and limits", synchronous requests: 10 MB or 1 minute. Five seconds and half a megabyte
# are left for what a header or an encoder counts differently from us.
_ACCEPTS = AcceptedAudio(
    formats=frozenset(SoundFormat),  # source: AutoDetectDecodingConfig in the v2 API
    longest=timedelta(seconds=55),
    largest_bytes=9_500_000,
)

# The breaker decides when to call again. By itself gRPC connects no more for up to two minutes after an outage (gRPC,
# "Connection Backoff Protocol"), and every probe in that time would fail.
_CHANNEL_OPTIONS = [("grpc.max_reconnect_backoff_ms", 5_000)]

_Error = type[TranscriptionUnavailable] | type[ProviderTimeout] | type[RateLimited]
# Source: google/rpc/code.proto says what each means; recognition has no effect there, so unlike AIP-194, which
# repeats only UNAVAILABLE, we repeat every failure of the server. A code that is not here is not worth repeating.
_RETRIABLE: Mapping[str, _Error] = {
    "CANCELLED": TranscriptionUnavailable,  # by the server: we do not see our own
    "UNKNOWN": TranscriptionUnavailable,
    "DEADLINE_EXCEEDED": ProviderTimeout,
    "RESOURCE_EXHAUSTED": RateLimited,
    "ABORTED": TranscriptionUnavailable,
    "INTERNAL": TranscriptionUnavailable,
    "UNAVAILABLE": TranscriptionUnavailable,
    "DATA_LOSS": TranscriptionUnavailable,
}
_PERMANENT: Mapping[str, type[TranscriptionError] | type[ProviderMisconfigured]] = {
    "INVALID_ARGUMENT": TranscriptionError,
    "NOT_FOUND": ProviderMisconfigured,  # the project or the location
    "ALREADY_EXISTS": TranscriptionError,
    "PERMISSION_DENIED": ProviderMisconfigured,  # also: the API is not enabled, or billing is off
    "FAILED_PRECONDITION": ProviderMisconfigured,
    "OUT_OF_RANGE": TranscriptionError,
    "UNIMPLEMENTED": ProviderMisconfigured,
    "UNAUTHENTICATED": ProviderMisconfigured,
}


@dataclass(frozen=True, slots=True)
class GoogleSpeechOptions:
    """Where to ask, as whom, and for what."""

    project: str
    location: str = "global"
    endpoint: str = ""  # host:port; empty: Google's own for the location. Plaintext if and only if a sandbox is there
    sandbox_host: str = ""  # trusted like this machine; empty: none
    credentials: str = ""  # a path or the JSON itself; empty: application default credentials
    languages: tuple[str, ...] = ("pt-BR",)
    model: str = "long"
    phrases: tuple[str, ...] = ()
    punctuation: bool = True

    @property
    def host(self) -> str:
        """Google's endpoint for the location. Source: "Specify a regional endpoint" in the Speech-to-Text v2 guide."""
        if self.endpoint:
            return self.endpoint
        return "speech.googleapis.com" if self.location == "global" else f"{self.location}-speech.googleapis.com"

    @property
    def is_local(self) -> bool:
        """Whether the endpoint is a sandbox, on this machine or where it was said: with neither TLS nor credentials."""
        return is_sandbox(self.endpoint, self.sandbox_host)


class GoogleSpeech:
    """Recognises with Google. Make it with `open_google_speech`."""

    accepts = _ACCEPTS

    def __init__(self, client: SpeechAsyncClient, options: GoogleSpeechOptions) -> None:
        self._client = client
        self._recognizer = f"projects/{options.project}/locations/{options.location}/recognizers/_"
        self._config = _build_config(options)

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.speech_v2.types import RecognizeRequest

        request = RecognizeRequest(recognizer=self._recognizer, config=self._config, content=audio.content)
        async with deadline_scope(deadline, "Google Speech", ProviderTimeout):
            try:
                # The broker repeats, so the library must not: its own retries would hide the attempts.
                response = await self._client.recognize(request, retry=None, timeout=deadline.remaining_s())
            except GoogleAPICallError as error:
                raise _classify(error) from error
            except GoogleAuthError as error:
                raise _classify_auth_error(error) from error
        return _read_transcript(response)


@asynccontextmanager
async def open_google_speech(options: GoogleSpeechOptions) -> AsyncIterator[GoogleSpeech]:
    """Open the adapter and its channel. Raises SettingsError if the credentials cannot be read."""
    client = await asyncio.to_thread(_import_and_authenticate, options)
    async with client() as ready:
        yield GoogleSpeech(ready, options)


def _import_and_authenticate(options: GoogleSpeechOptions) -> Any:
    """Return a function that makes the client. The slow part happens here, off the loop; the channel needs the loop."""
    from google.cloud.speech_v2 import SpeechAsyncClient
    from google.cloud.speech_v2.services.speech.transports.grpc_asyncio import SpeechGrpcAsyncIOTransport
    from grpc.aio import insecure_channel

    if options.is_local:
        return lambda: SpeechAsyncClient(
            transport=SpeechGrpcAsyncIOTransport(channel=insecure_channel(options.host, options=_CHANNEL_OPTIONS))
        )

    def channel(host: str, **given: Any) -> Any:
        given["options"] = [*given["options"], *_CHANNEL_OPTIONS]
        return SpeechGrpcAsyncIOTransport.create_channel(host, **given)

    credentials = read_google_credentials(options.credentials)
    return lambda: SpeechAsyncClient(
        transport=SpeechGrpcAsyncIOTransport(host=options.host, credentials=credentials, channel=channel)
    )


def _build_config(options: GoogleSpeechOptions) -> RecognitionConfig:
    from google.cloud.speech_v2 import types

    config = types.RecognitionConfig(
        auto_decoding_config=types.AutoDetectDecodingConfig(),
        language_codes=list(options.languages),
        model=options.model,
        features=types.RecognitionFeatures(enable_automatic_punctuation=options.punctuation),
    )
    if options.phrases:
        phrases = types.PhraseSet(phrases=[types.PhraseSet.Phrase(value=phrase) for phrase in options.phrases])
        config.adaptation = types.SpeechAdaptation(
            phrase_sets=[types.SpeechAdaptation.AdaptationPhraseSet(inline_phrase_set=phrases)]
        )
    return config


def _read_transcript(response: RecognizeResponse) -> Transcript:
    """The most likely words of each stretch; Google writes a confidence of 0.0 for "not given"."""
    best = [result.alternatives[0] for result in response.results if result.alternatives]
    return Transcript.join([Transcript(words.transcript.strip(), words.confidence or None) for words in best])


def _classify(error: GoogleAPICallError) -> StageError:
    status = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
    text = f"Google Speech answered {status}"
    if status in _PERMANENT:
        return _PERMANENT[status](text)
    return _RETRIABLE.get(status, TranscriptionUnavailable)(text, retry_after=retry_delay(error.details))


def _classify_auth_error(error: Exception) -> StageError:
    """The token could not be renewed: the network may be down, or the key revoked; the library knows which."""
    if getattr(error, "retryable", False):
        return TranscriptionUnavailable("Google's token server is out of reach")
    return ProviderMisconfigured(f"Google refused the credentials ({type(error).__name__})")
