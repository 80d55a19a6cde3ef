"""The errors of the guarded client. Their texts name the host at most: a query may hold a signature."""

from __future__ import annotations

from datetime import timedelta

from eai_common.errors import Permanent, Retriable

__all__ = [
    "OutboundFailed",
    "OutboundRefused",
    "OutboundRejected",
    "OutboundTimeout",
    "OutboundTooLarge",
    "OutboundUnknownHost",
    "OutboundUnreachable",
]


class OutboundRefused(Permanent):
    """The policy forbids the URL, or where it redirects to. Nothing was sent to it."""

    error_code = "OUTBOUND_URL_REFUSED"


class OutboundUnknownHost(Permanent):
    """The name system says that there is no such host."""

    error_code = "OUTBOUND_HOST_UNKNOWN"


class OutboundTooLarge(Permanent):
    """The body is larger than the limit, as sent or as unpacked; reading stopped there."""

    error_code = "OUTBOUND_TOO_LARGE"


class OutboundRejected(Permanent):
    """The other side answered with a `status` that a retry does not change."""

    error_code = "OUTBOUND_REJECTED"

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class OutboundFailed(Retriable):
    """The other side answered with a `status` that may pass: 408, 425, 429 or a 5xx."""

    error_code = "OUTBOUND_FAILED"

    def __init__(self, text: str, *, status: int, retry_after: timedelta | None = None) -> None:
        super().__init__(text, retry_after=retry_after)
        self.status = status


class OutboundTimeout(Retriable):
    """The deadline, the first-byte limit or the stall limit passed."""

    error_code = "OUTBOUND_TIMEOUT"


class OutboundUnreachable(Retriable):
    """No connection, or one that broke, or an answer that is not HTTP."""

    error_code = "OUTBOUND_UNREACHABLE"
