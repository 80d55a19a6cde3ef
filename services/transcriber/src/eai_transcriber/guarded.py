"""A recogniser that is left alone while it is down, and given up when it takes too long."""

from __future__ import annotations

from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import Permanent
from eai_common.guards import CircuitBreaker
from eai_transcriber.errors import ProviderTimeout, RateLimited, TranscriptionUnavailable
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["GuardedRecognizer", "is_down"]


def is_down(error: BaseException) -> bool | None:
    """What an error of a recogniser says about it: whoever refuses is up, and a used-up quota says nothing."""
    if isinstance(error, TranscriptionUnavailable | ProviderTimeout):
        return True
    return False if isinstance(error, Permanent) else None


class GuardedRecognizer:
    """Makes each call inside the breaker, which raises CircuitOpen, and gives it `longest_call` at most."""

    def __init__(self, recognizer: Recognizer, breaker: CircuitBreaker, *, longest_call: timedelta) -> None:
        self._recognizer = recognizer
        self._breaker = breaker
        self._longest_call = longest_call

    @property
    def takes(self) -> Takes:
        return self._recognizer.takes

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        if deadline.has_passed:  # our lateness, not its: the breaker must not learn from it
            raise ProviderTimeout("the deadline passed before the recogniser was asked")
        try:
            with self._breaker.call():
                return await self._recognizer.transcribe(audio, deadline=deadline.within(self._longest_call))
        except RateLimited as error:
            if error.retry_after is not None:
                self._breaker.pause(error.retry_after)
            raise
