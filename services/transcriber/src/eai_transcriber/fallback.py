"""Several recognisers as one: the next is asked when one is down, slow or out of quota."""

from __future__ import annotations

from collections.abc import Sequence

from eai_common.clock import Deadline
from eai_common.errors import Retriable
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["FirstThatAnswers"]


class FirstThatAnswers:
    """Asks in the given order. An error about the audio is final; only one that may pass moves on to the next."""

    def __init__(self, recognizers: Sequence[Recognizer]) -> None:
        if not recognizers:
            raise ValueError("at least one recogniser is needed")
        self._recognizers = recognizers

    @property
    def takes(self) -> Takes:
        """What every one of them takes."""
        each = [recognizer.takes for recognizer in self._recognizers]
        return Takes(
            formats=frozenset.intersection(*(takes.formats for takes in each)),
            longest=min(takes.longest for takes in each),
            largest_bytes=min(takes.largest_bytes for takes in each),
        )

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        *others, last = self._recognizers
        for recognizer in others:
            try:
                return await recognizer.transcribe(audio, deadline=deadline)
            except Retriable:
                continue
        return await last.transcribe(audio, deadline=deadline)
