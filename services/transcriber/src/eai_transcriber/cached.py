"""A cache of transcripts, so that the same audio is recognised once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Protocol

from eai_common.clock import Deadline
from eai_common.store import StoreUnavailable
from eai_common.telemetry import add_to_line, get_logger
from eai_transcriber.recognizer import AcceptedAudio, Audio, Recognizer, Transcript
from eai_transcriber.transcripts import KeptTranscript

__all__ = ["CachedRecognizer", "Transcripts"]

log = get_logger(__name__)


class Transcripts(Protocol):
    """The store of the cache. Every method raises StoreUnavailable."""

    def get(self, digest: str) -> Awaitable[KeptTranscript | None]:
        """Return the transcript, None if there is none."""

    def put(self, digest: str, transcript: KeptTranscript) -> Awaitable[None]:
        """Store the transcript for a while."""


class CachedRecognizer:
    """Caches transcripts by the audio itself, piece by piece.

    So a retry pays only for the pieces that failed, and a recording that is forwarded pays nothing. `variant` names all
    that shapes the words beside the audio: the provider, the model, the languages, the hints. Best effort: without the
    store the recogniser is asked.
    """

    def __init__(self, recognizer: Recognizer, transcripts: Transcripts, *, variant: str) -> None:
        self._recognizer = recognizer
        self._transcripts = transcripts
        self._variant = variant.encode()

    @property
    def accepts(self) -> AcceptedAudio:
        return self._recognizer.accepts

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        digest = await asyncio.to_thread(self._digest, audio)  # 20 ms for the largest piece
        kept = await self._look_up(digest)
        if kept is not None:
            return Transcript(kept.text, kept.confidence)
        transcript = await self._recognizer.transcribe(audio, deadline=deadline)
        if transcript.text:  # hearing nothing may have been the provider's bad moment, and costs little to ask again
            await self._store(digest, KeptTranscript(transcript.text, transcript.confidence))
        return transcript

    def _digest(self, audio: Audio) -> str:
        hashed = hashlib.sha256(len(self._variant).to_bytes(4) + self._variant)
        hashed.update(audio.content)
        return hashed.hexdigest()

    async def _look_up(self, digest: str) -> KeptTranscript | None:
        try:
            kept = await self._transcripts.get(digest)
        except StoreUnavailable as error:
            log.warning("transcript_cache_read_failed", error=str(error))
            return None
        if kept is not None:
            add_to_line(transcript_is_cached=True)
        return kept

    async def _store(self, digest: str, transcript: KeptTranscript) -> None:
        try:
            await self._transcripts.put(digest, transcript)
        except StoreUnavailable as error:
            log.warning("transcript_cache_write_failed", error=str(error))
