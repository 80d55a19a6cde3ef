"""The headers of a dead letter, which both adapters write.

A dead letter is its message unchanged (body, properties, routing key, the headers of the last attempt) plus the headers
named here. To replay it, publish it with the headers that `without_dead_letter` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from eai_common.broker import DeadLetterReason, Headers

__all__ = [
    "DEAD_LETTER_AT",
    "DEAD_LETTER_ERROR",
    "DEAD_LETTER_ERROR_CODE",
    "DEAD_LETTER_EVIDENCE",
    "DEAD_LETTER_QUEUE",
    "DEAD_LETTER_STAGE",
    "DELIVERY_LIMIT",
    "DeadLetter",
    "dead_letter_headers",
    "read_dead_letter",
    "without_dead_letter",
]

DEAD_LETTER_ERROR_CODE = "x-eai-dead-letter-error-code"
DEAD_LETTER_ERROR = "x-eai-dead-letter-error"
DEAD_LETTER_STAGE = "x-eai-dead-letter-stage"
DEAD_LETTER_QUEUE = "x-eai-dead-letter-queue"
DEAD_LETTER_AT = "x-eai-dead-letter-at"
DEAD_LETTER_EVIDENCE = "x-eai-dead-letter-evidence"

DELIVERY_LIMIT = DeadLetterReason(
    "DELIVERY_LIMIT", "redelivered too often without being settled: it may kill its consumer", stage="broker"
)
"""The reason when the broker itself dead-letters a message."""

_LONGEST_ERROR = 1000
_LONGEST_EVIDENCE = 8000
_NAMES = frozenset(
    {DEAD_LETTER_ERROR_CODE, DEAD_LETTER_ERROR, DEAD_LETTER_STAGE, DEAD_LETTER_QUEUE, DEAD_LETTER_AT},
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why, from which queue and when a message was dead-lettered."""

    reason: DeadLetterReason
    queue: str
    at: datetime


def dead_letter_headers(headers: Headers, dead_letter: DeadLetter) -> dict[str, str | int]:
    """`headers` with those of the dead letter; long texts are cut, because AMQP headers must fit in one frame."""
    evidence = dead_letter.reason.evidence[:_LONGEST_EVIDENCE]
    return {
        **headers,
        DEAD_LETTER_ERROR_CODE: dead_letter.reason.error_code,
        DEAD_LETTER_ERROR: dead_letter.reason.error[:_LONGEST_ERROR],
        DEAD_LETTER_STAGE: dead_letter.reason.stage,
        DEAD_LETTER_QUEUE: dead_letter.queue,
        DEAD_LETTER_AT: dead_letter.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        **({DEAD_LETTER_EVIDENCE: evidence} if evidence else {}),
    }


def read_dead_letter(headers: Headers) -> DeadLetter | None:
    """What `dead_letter_headers` wrote; None if the message is no dead letter."""
    if not headers.keys() >= _NAMES:
        return None
    code, error, stage = (str(headers[name]) for name in (DEAD_LETTER_ERROR_CODE, DEAD_LETTER_ERROR, DEAD_LETTER_STAGE))
    at = datetime.fromisoformat(str(headers[DEAD_LETTER_AT]))
    evidence = str(headers.get(DEAD_LETTER_EVIDENCE, ""))
    return DeadLetter(DeadLetterReason(code, error, stage, evidence), str(headers[DEAD_LETTER_QUEUE]), at)


def without_dead_letter(headers: Headers) -> Mapping[str, str | int]:
    """The headers that the message had before it was dead-lettered."""
    return {name: value for name, value in headers.items() if name not in _NAMES | {DEAD_LETTER_EVIDENCE}}
