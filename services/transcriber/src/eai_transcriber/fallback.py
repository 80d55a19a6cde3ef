"""Several recognisers as one: the next is asked when one cannot help now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import Deferred, Retriable, StageError
from eai_common.telemetry import get_logger
from eai_transcriber.errors import ProviderMisconfigured
from eai_transcriber.recognizer import AcceptedAudio, Audio, Recognizer, Transcript

__all__ = ["FallbackRecognizer"]

log = get_logger(__name__)

_BEST_FIRST = (Deferred, Retriable, StageError)  # costs no attempt, costs one, is final


class FallbackRecognizer:
    """Asks in the given order, each for an equal share of the time that is left.

    A recogniser that is down, slow, at its limit or misconfigured is skipped. An error about the audio is final.
    Raises ValueError without recognizers.
    """

    def __init__(self, recognizers: Sequence[Recognizer]) -> None:
        if not recognizers:
            raise ValueError("at least one recogniser is needed")
        self._recognizers = recognizers

    @property
    def accepts(self) -> AcceptedAudio:
        """What all of them accept."""
        each = [recognizer.accepts for recognizer in self._recognizers]
        return AcceptedAudio(
            formats=frozenset.intersection(*(accepts.formats for accepts in each)),
            longest=min(accepts.longest for accepts in each),
            largest_bytes=min(accepts.largest_bytes for accepts in each),
        )

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        failures: list[StageError] = []
        for position, recognizer in enumerate(self._recognizers, start=1):
            share = timedelta(seconds=deadline.remaining_s() / (len(self._recognizers) - position + 1))
            try:
                return await recognizer.transcribe(audio, deadline=deadline.within(share))
            except (Deferred, Retriable, ProviderMisconfigured) as error:
                log.warning("recognizer_skipped", position=position, error_code=error.error_code, error=str(error))
                failures.append(error)
        raise _pick_best(failures)


def _pick_best(failures: Sequence[StageError]) -> StageError:
    """Return the error with the best outcome for the message: a recogniser may be back when it returns."""
    return next(error for kind in _BEST_FIRST for error in failures if isinstance(error, kind))
