"""Several recognisers as one: the next is asked when one cannot help now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import Deferred, Retriable, StageError
from eai_common.telemetry import get_logger
from eai_transcriber.errors import ProviderMisconfigured
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["FallbackRecognizer"]

log = get_logger(__name__)

_HOPES = (Deferred, Retriable, StageError)  # the best first: costs no attempt, costs one, is final


class FallbackRecognizer:
    """Asks in the given order, each for an equal share of the time that is left.

    One that is down, slow, at its limit or misconfigured is passed over. An error about the audio is final.
    Raises ValueError without recognizers.
    """

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
        failures: list[StageError] = []
        for place, recognizer in enumerate(self._recognizers):
            share = timedelta(seconds=deadline.remaining_s() / (len(self._recognizers) - place))
            try:
                return await recognizer.transcribe(audio, deadline=deadline.within(share))
            except (Deferred, Retriable, ProviderMisconfigured) as error:
                log.warning("recognizer_passed_over", place=place + 1, error_code=error.error_code, error=str(error))
                failures.append(error)
        raise _most_hopeful(failures)


def _most_hopeful(failures: Sequence[StageError]) -> StageError:
    """The error whose way out is best for the message: one of the recognisers may be back by then."""
    return next(error for hope in _HOPES for error in failures if isinstance(error, hope))
