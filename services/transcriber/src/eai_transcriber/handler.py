"""What the stage decides: a voice message's URL becomes a transcript, or an error that says why not."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from eai_common.clock import Deadline
from eai_common.guards import enforce_max_wait
from eai_common.messages import MessageAudio, MessageTranscribed
from eai_common.outbound import (
    Fetched,
    OutboundFailed,
    OutboundRefused,
    OutboundRejected,
    OutboundTimeout,
    OutboundTooLarge,
    OutboundUnknownHost,
    OutboundUnreachable,
)
from eai_common.stage import StageContext
from eai_common.telemetry import time_to_line
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.errors import (
    AudioDownloadFailed,
    AudioDownloadRejected,
    AudioNotUnderstood,
    AudioTooLarge,
    AudioUrlRefused,
)
from eai_transcriber.in_pieces import recognize_in_pieces
from eai_transcriber.recognizer import Recognizer, Transcript
from eai_transcriber.workers import Workers

__all__ = ["Antivirus", "Downloads", "Limits", "Transcribe"]

# So that a slow provider is PROVIDER_TIMEOUT and not a slow stage, and time is left to settle.
_TO_SETTLE = timedelta(seconds=1)


class Downloads(Protocol):
    """As much of the guarded client as this stage uses."""

    async def fetch(self, url: str, *, deadline: Deadline, max_bytes: int | None = None) -> Fetched:
        """The body behind a URL that a user chose."""


class Antivirus(Protocol):
    """Looks at a file before anything of ours opens it."""

    async def check(self, content: bytes, *, deadline: Deadline) -> None:
        """Return if it is clean. Raises AudioInfected, AudioTooLarge or AntivirusUnavailable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one voice message may cost."""

    largest_bytes: int = 25 * 1024 * 1024
    longest: timedelta = timedelta(seconds=600)
    download: timedelta = timedelta(seconds=60)
    pieces_side_by_side: int = 4
    max_wait: timedelta = timedelta(minutes=10)  # for a recogniser, until waiting costs attempts


class Transcribe:
    """The transcriber's handler: download, check, cut and recognise, under the delivery's deadline.

    The recording stays in memory from the first byte to the last; no file is ever written.
    """

    def __init__(
        self,
        downloads: Downloads,
        recognizer: Recognizer,
        workers: Workers,
        limits: Limits,
        *,
        antivirus: Antivirus | None = None,
    ) -> None:
        self._downloads = downloads
        self._recognizer = recognizer
        self._workers = workers
        self._limits = limits
        self._antivirus = antivirus

    async def __call__(self, message: MessageAudio, ctx: StageContext) -> MessageTranscribed:
        """The message with what was said in it.

        Raises AudioNotUnderstood, or another of `eai_transcriber.errors`.
        """
        deadline = ctx.deadline.less(_TO_SETTLE)
        content = await self._download(message.message.strip(), deadline)
        if self._antivirus is not None:
            await self._antivirus.check(content, deadline=deadline)
        with enforce_max_wait(self._limits.max_wait, waited=ctx.attempt.waited), time_to_line("transcription_ms"):
            transcript = await self._recognize(content, deadline)
        if not transcript.text:
            raise AudioNotUnderstood("the recogniser heard no words")
        return MessageTranscribed.after(message, transcript=transcript.text, confidence=transcript.confidence)

    async def _download(self, url: str, deadline: Deadline) -> bytes:
        sooner = deadline.within(self._limits.download)
        try:
            fetched = await self._downloads.fetch(url, deadline=sooner, max_bytes=self._limits.largest_bytes)
        except OutboundRefused as error:
            raise AudioUrlRefused(str(error)) from error
        except OutboundTooLarge as error:
            raise AudioTooLarge(str(error)) from error
        except (OutboundRejected, OutboundUnknownHost) as error:
            raise AudioDownloadRejected(str(error)) from error
        except (OutboundFailed, OutboundTimeout, OutboundUnreachable) as error:
            raise AudioDownloadFailed(str(error), retry_after=error.retry_after) from error
        return fetched.body

    async def _recognize(self, content: bytes, deadline: Deadline) -> Transcript:
        cut = partial(cut_into_pieces, content, self._recognizer.accepts, self._limits.longest)
        async with aclosing(self._workers.each(cut)) as found:
            return await recognize_in_pieces(
                found, self._recognizer, side_by_side=self._limits.pieces_side_by_side, deadline=deadline
            )
