"""What a receiver's answer, or its silence, means for this delivery and for others to the same host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eai_common.errors import Permanent, Retriable
from eai_common.guards import parse_retry_after
from eai_common.outbound import (
    Answered,
    OutboundRefused,
    OutboundTimeout,
    OutboundUnknownHost,
    OutboundUnreachable,
)
from eai_formatter.callbacks.log import CallbackState

__all__ = ["CallbackFailed", "CallbackUnsigned", "DeliveryResult", "NoAnswer", "fail_without_answer", "read_answer"]

_GONE = 410
_TOO_MANY = 429

NoAnswer = OutboundTimeout | OutboundUnreachable | OutboundUnknownHost
"""The errors of the client that say nothing was answered. A name that is unknown today may be known tomorrow."""

_LABELS: dict[type[NoAnswer], str] = {
    OutboundTimeout: "timeout",
    OutboundUnreachable: "unreachable",
    OutboundUnknownHost: "unknown_host",
}


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What came of one attempt."""

    label: str  # of the metric: one of a few
    summary: str  # for the operator
    state: CallbackState

    @classmethod
    def of_error(cls, error: CallbackFailed | OutboundRefused) -> DeliveryResult:
        """The result of an attempt that failed."""
        if isinstance(error, CallbackFailed):
            return error.result
        return cls("refused", error.error_code, "failed")


class CallbackFailed(Retriable):
    """The receiver did not take the callback: its answer was neither 2xx nor 410, or none came in time."""

    error_code = "CALLBACK_FAILED"

    def __init__(
        self, text: str, *, result: DeliveryResult, is_host_down: bool, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(text, retry_after=retry_after)
        self.result = result
        self.is_host_down = is_host_down


class CallbackUnsigned(Permanent):
    """There is no secret to sign with, and this is no development machine."""

    error_code = "CALLBACK_UNSIGNED"


def read_answer(answered: Answered, host: str, *, now: datetime) -> DeliveryResult:
    """Return the result of an answer that ends the delivery: any 2xx, or 410, with which the receiver wants no more.

    Raises CallbackFailed for all others, a redirect too: they may change. (Source: Standard Webhooks, "Delivery success
    and failure".) Only 5xx speaks against the host: what one URL answers to one message must not hold up the others.
    """
    status = answered.status
    if 200 <= status < 300:
        return DeliveryResult("delivered", str(status), "delivered")
    if status == _GONE:
        return DeliveryResult("gone", str(status), "gone")
    label = str(status) if status == _TOO_MANY else f"{status // 100}xx"
    raise CallbackFailed(
        f"{host} answered {status}, expected 2xx",
        result=DeliveryResult(label, str(status), "retrying"),
        is_host_down=status >= 500,
        retry_after=parse_retry_after(answered.headers.get("retry-after"), now=now),
    )


def fail_without_answer(error: NoAnswer) -> CallbackFailed:
    """Return the error of an attempt that got no answer."""
    result = DeliveryResult(_LABELS[type(error)], error.error_code, "retrying")
    return CallbackFailed(str(error), result=result, is_host_down=True)
