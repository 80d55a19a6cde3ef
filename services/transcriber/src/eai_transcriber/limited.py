"""A recogniser that is asked no more often than agreed, by all replicas together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import Deferred
from eai_common.guards import Window
from eai_common.store import SlidingWindow
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["LimitedRecognizer", "QuotaUsedUp"]

# So that those who were sent away do not all come back for the one place that is free by then.
_SPREAD = timedelta(seconds=5)


class QuotaUsedUp(Deferred):
    """Our own limit of calls to the recogniser; nobody was asked."""

    error_code = "RATE_LIMITED"


class LimitedRecognizer:
    """Takes a place in every window for each call. Raises QuotaUsedUp when there is none, or StoreUnavailable."""

    def __init__(
        self,
        recognizer: Recognizer,
        limiter: SlidingWindow,
        windows: Sequence[Window],
        *,
        provider: str,
        random: Callable[[], float],
    ) -> None:
        self._recognizer = recognizer
        self._limiter = limiter
        self._windows = windows
        self._provider = provider
        self._random = random

    @property
    def takes(self) -> Takes:
        return self._recognizer.takes

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        taken = await self._limiter.take(f"provider:{self._provider}", self._windows)
        if not taken.is_allowed:
            delay = taken.retry_after + _SPREAD * self._random()
            raise QuotaUsedUp(f"no call to {self._provider} is left for now", delay=delay)
        return await self._recognizer.transcribe(audio, deadline=deadline)
