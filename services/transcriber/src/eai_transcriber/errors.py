"""The errors of a voice message. The codes reach clients, metrics and the formatter's texts, so they are stable."""

from __future__ import annotations

from eai_common.errors import Permanent, Retriable

__all__ = [
    "AntivirusUnavailable",
    "AudioDownloadFailed",
    "AudioDownloadRejected",
    "AudioInfected",
    "AudioNotUnderstood",
    "AudioTooLarge",
    "AudioTooLong",
    "AudioUnsupported",
    "AudioUrlRefused",
    "ProviderMisconfigured",
    "ProviderTimeout",
    "RateLimited",
    "TranscriptionError",
    "TranscriptionUnavailable",
]


class AudioUrlRefused(Permanent):
    """The policy forbids the URL, or where it redirects to."""

    error_code = "AUDIO_URL_REFUSED"


class AudioDownloadRejected(Permanent):
    """The audio is not there: no such host, or an answer such as 403, 404 or 410."""

    error_code = "AUDIO_DOWNLOAD_FAILED"


class AudioDownloadFailed(Retriable):
    """The audio could not be fetched now: no connection, too slow, or an answer such as 429 or 503."""

    error_code = "AUDIO_DOWNLOAD_FAILED"


class AudioTooLarge(Permanent):
    """More bytes than MAX_AUDIO_SIZE_MB."""

    error_code = "AUDIO_TOO_LARGE"


class AudioTooLong(Permanent):
    """More sound than TRANSCRIBE_MAX_DURATION."""

    error_code = "AUDIO_TOO_LONG"


class AudioUnsupported(Permanent):
    """Not a sound recording that we can read: a video, a picture, a page, or a file that is empty or broken."""

    error_code = "AUDIO_UNSUPPORTED"


class AudioInfected(Permanent):
    """The virus scanner found something in the file."""

    error_code = "AUDIO_INFECTED"


class AntivirusUnavailable(Retriable):
    """The virus scanner did not say whether the file is clean; an unchecked file is not processed."""

    error_code = "ANTIVIRUS_UNAVAILABLE"


class AudioNotUnderstood(Permanent):
    """The recogniser heard no words. The system works: the user is asked to repeat or to write."""

    error_code = "AUDIO_NOT_UNDERSTOOD"


class TranscriptionError(Permanent):
    """The recogniser refused this audio; a retry does not change that."""

    error_code = "TRANSCRIPTION_ERROR"


class ProviderMisconfigured(Permanent):
    """The recogniser refuses us, not the audio: credentials, project, region, model. An operator has to act."""

    error_code = "PROVIDER_MISCONFIGURED"


class TranscriptionUnavailable(Retriable):
    """The recogniser is down, or failed in a way that may pass."""

    error_code = "TRANSCRIPTION_UNAVAILABLE"


class ProviderTimeout(Retriable):
    """The recogniser did not answer before the deadline."""

    error_code = "PROVIDER_TIMEOUT"


class RateLimited(Retriable):
    """A quota of the recogniser is spent for now."""

    error_code = "RATE_LIMITED"
