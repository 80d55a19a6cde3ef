"""A recogniser that is called inside of its guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from eai_common.clock import Deadline
from eai_common.errors import Permanent, Retriable
from eai_common.guards import (
    BreakerRules,
    Call,
    CircuitBreaker,
    Guard,
    GuardChain,
    GuardWait,
    Limiter,
    Measure,
    RateLimit,
    TimeLimit,
    calls_per_minute,
)
from eai_common.telemetry import Metrics
from eai_transcriber.errors import ProviderTimeout, RateLimited, TranscriptionUnavailable
from eai_transcriber.recognizer import AcceptedAudio, Audio, Recognizer, Transcript

__all__ = ["GuardResources", "GuardedRecognizer", "QuotaSpent", "RecognizerDown", "guard_recognizer", "is_down"]


class RecognizerDown(GuardWait):
    """The recogniser failed several times in a row, or asked for a pause; it was not asked."""

    error_code = "CIRCUIT_OPEN"
    overdue: ClassVar[type[Retriable]] = TranscriptionUnavailable


class QuotaSpent(GuardWait):
    """All replicas together have made as many calls to the recogniser as they may; it was not asked."""

    error_code = "RATE_LIMITED"
    overdue: ClassVar[type[Retriable]] = RateLimited


def is_down(error: BaseException) -> bool | None:
    """Whether the error shows that the recogniser is down (True), or up (False); None when it shows neither."""
    if isinstance(error, TranscriptionUnavailable | ProviderTimeout):
        return True
    return False if isinstance(error, Permanent) else None


class GuardedRecognizer:
    """Calls the recogniser inside of all guards, and counts the calls that reach it."""

    def __init__(self, recognizer: Recognizer, guards: Sequence[Guard], *, count_call: Callable[[], None]) -> None:
        self._recognizer = recognizer
        self._guards = guards
        self._count_call = count_call

    @property
    def accepts(self) -> AcceptedAudio:
        return self._recognizer.accepts

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        """Raises GuardWait where a guard defers the call, StoreUnavailable, and what the recogniser raises."""
        async with GuardChain(self._guards, Call(deadline)) as call:
            self._count_call()
            return await self._recognizer.transcribe(audio, deadline=call.deadline)


@dataclass(frozen=True, slots=True)
class GuardResources:
    """What the guards of all recognisers stand on."""

    limiter: Limiter
    random: Callable[[], float]
    metrics: Metrics


def guard_recognizer(
    recognizer: Recognizer, name: str, resources: GuardResources, *, timeout: timedelta, calls_a_minute: int
) -> Recognizer:
    """Return the recogniser behind its guards: a call takes `timeout` at most, and `calls_a_minute` is 0 for no limit.

    A recogniser that is down uses up no quota, and only calls that are made are measured.
    """
    random, metrics = resources.random, resources.metrics
    guards: list[Guard] = [
        TimeLimit(name, timeout, ProviderTimeout),
        CircuitBreaker(name, BreakerRules(), judge=is_down, refusal=RecognizerDown, random=random, metrics=metrics),
        *(
            RateLimit(name, window, resources.limiter, refusal=QuotaSpent, random=random)
            for window in calls_per_minute(calls_a_minute)
        ),
        Measure(name, metrics),
    ]
    return GuardedRecognizer(recognizer, guards, count_call=metrics.transcriptions.labels(name).inc)
