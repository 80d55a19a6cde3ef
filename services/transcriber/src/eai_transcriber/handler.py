"""What the stage decides: a voice message's URL becomes what was said, or the reason why not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from eai_common.clock import Deadline
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
from eai_transcriber.audio import pieces
from eai_transcriber.errors import (
    AudioDownloadFailed,
    AudioDownloadRejected,
    AudioNotUnderstood,
    AudioTooLarge,
    AudioUrlRefused,
)
from eai_transcriber.recognizer import Audio, Recognizer, Transcript
from eai_transcriber.workers import Workers

__all__ = ["Downloads", "Limits", "Transcribe"]

ResultT = TypeVar("ResultT")


class Downloads(Protocol):
    """As much of the guarded client as this stage uses."""

    async def fetch(self, url: str, *, deadline: Deadline, max_bytes: int | None = None) -> Fetched:
        """The body behind a URL that a user chose."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one voice message may cost."""

    largest_bytes: int = 25 * 1024 * 1024
    longest: timedelta = timedelta(seconds=600)
    download: timedelta = timedelta(seconds=60)
    pieces_side_by_side: int = 4


class Transcribe:
    """The transcriber's handler: download, prepare, recognise, in that order and under the delivery's deadline."""

    consumes = (MessageAudio,)

    def __init__(self, downloads: Downloads, recognizer: Recognizer, workers: Workers, limits: Limits) -> None:
        self._downloads = downloads
        self._recognizer = recognizer
        self._workers = workers
        self._limits = limits

    async def __call__(self, message: MessageAudio, ctx: StageContext) -> MessageTranscribed:
        """The message with what was said in it. Raises one of `eai_transcriber.errors`."""
        content = await self._download(message.message.strip(), ctx.deadline)
        recording = await self._workers.run(
            partial(pieces, content, self._recognizer.takes, self._limits.longest),
        )
        transcript = await self._recognize(recording, ctx.deadline)
        if not transcript.text:
            raise AudioNotUnderstood("the recogniser heard no words")
        return MessageTranscribed.after(message, transcript=transcript.text, confidence=transcript.confidence)

    async def _download(self, url: str, deadline: Deadline) -> bytes:
        limit_s = min(deadline.remaining_s(), self._limits.download.total_seconds())
        sooner = Deadline.after(timedelta(seconds=limit_s), deadline.clock)
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

    async def _recognize(self, recording: list[Audio], deadline: Deadline) -> Transcript:
        turns = asyncio.Semaphore(self._limits.pieces_side_by_side)

        async def recognize(piece: Audio) -> Transcript:
            async with turns:
                return await self._recognizer.transcribe(piece, deadline=deadline)

        return Transcript.joined(await _all(map(recognize, recording)))


async def _all(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Every result in order. The first error cancels the rest and is raised alone, so that it can be classified."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
