"""What an answer of a receiver, or its silence, means: for this delivery, and for others to the same host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eai_common.errors import Permanent, Retriable, StageError
from eai_common.guards import parse_retry_after
from eai_common.outbound import (
    Answered,
    OutboundRefused,
    OutboundTimeout,
    OutboundUnknownHost,
    OutboundUnreachable,
)
from eai_common.store import CallbackState

__all__ = ["CallbackFailed", "CallbackUnsigned", "Tried", "tried_by_answer", "tried_by_error"]

_GONE = 410
_TOO_MANY = 429


class CallbackFailed(Retriable):
    """The receiver did not take it: it answered something else than 2xx or 410, or nothing in time."""

    error_code = "CALLBACK_FAILED"


class CallbackUnsigned(Permanent):
    """There is no secret to sign with, and this is no development machine."""

    error_code = "CALLBACK_UNSIGNED"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one try."""

    label: str  # of the metric: one of a few
    result: str  # for the operator
    state: CallbackState
    error: StageError | None = None
    is_host_down: bool | None = None  # None: it says nothing about the host
    pause: timedelta | None = None  # what the receiver wishes for, if it does


def tried_by_answer(answered: Answered, host: str, *, now: datetime) -> Tried:
    """Any 2xx is a delivery and 410 its end; everything else, a redirect too, may be another thing later.

    (Source: Standard Webhooks, "Delivery success and failure".) Only 5xx speaks against the host: what one URL
    answers to one message must not hold up the others.
    """
    status = answered.status
    if 200 <= status < 300:
        return Tried("delivered", str(status), "delivered", is_host_down=False)
    if status == _GONE:
        return Tried("gone", str(status), "gone", is_host_down=False)
    pause = parse_retry_after(answered.headers.get("retry-after"), now=now)
    return Tried(
        label=str(status) if status == _TOO_MANY else f"{status // 100}xx",
        result=str(status),
        state="retrying",
        error=CallbackFailed(f"{host} answered {status}, expected 2xx", retry_after=pause),
        is_host_down=status >= 500,
        pause=pause,
    )


def tried_by_error(error: StageError) -> Tried:
    """What the outbound client's error means. A name that is unknown today may be in the name system tomorrow."""
    result = error.error_code
    if isinstance(error, OutboundRefused):
        return Tried("refused", result, "failed", error=error)
    label = _LABELS.get(type(error), "error")
    return Tried(label, result, "retrying", error=CallbackFailed(str(error)), is_host_down=True)


_LABELS: dict[type[StageError], str] = {
    OutboundTimeout: "timeout",
    OutboundUnreachable: "unreachable",
    OutboundUnknownHost: "unknown_host",
}
