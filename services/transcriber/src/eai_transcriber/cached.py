"""A recogniser that is not asked twice about the same audio."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Protocol

from eai_common.clock import Deadline
from eai_common.store import KeptTranscript, StoreUnavailable
from eai_common.telemetry import add_to_line, get_logger
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["CachedRecognizer", "Transcripts"]

log = get_logger(__name__)


class Transcripts(Protocol):
    """Where transcripts are kept for a while. Raises StoreUnavailable."""

    async def get(self, digest: str) -> KeptTranscript | None:
        """What was kept, if it still is."""

    async def put(self, digest: str, transcript: KeptTranscript) -> None:
        """Keep it."""


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
    def takes(self) -> Takes:
        return self._recognizer.takes

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        digest = await asyncio.to_thread(self._digest, audio)  # 20 ms for the largest piece
        kept = await self._kept(digest)
        if kept is not None:
            return Transcript(kept.text, kept.confidence)
        transcript = await self._recognizer.transcribe(audio, deadline=deadline)
        if transcript.text:  # hearing nothing may have been the provider's bad moment, and costs little to ask again
            await self._keep(digest, KeptTranscript(transcript.text, transcript.confidence))
        return transcript

    def _digest(self, audio: Audio) -> str:
        hashed = hashlib.sha256(len(self._variant).to_bytes(4) + self._variant)
        hashed.update(audio.content)
        return hashed.hexdigest()

    async def _kept(self, digest: str) -> KeptTranscript | None:
        try:
            kept = await self._transcripts.get(digest)
        except StoreUnavailable as error:
            log.warning("transcript_not_looked_up", error=str(error))
            return None
        if kept is not None:
            add_to_line(transcript_is_cached=True)
        return kept

    async def _keep(self, digest: str, transcript: KeptTranscript) -> None:
        try:
            await self._transcripts.put(digest, transcript)
        except StoreUnavailable as error:
            log.warning("transcript_not_kept", error=str(error))
