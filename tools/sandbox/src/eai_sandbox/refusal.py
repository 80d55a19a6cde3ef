"""The error of every refused call, before a protocol gives it its own shape."""

from __future__ import annotations

__all__ = ["GOOGLE_STATUS", "Refused"]

# HTTP status to the canonical code of Google's APIs (source: google/rpc/code.proto, "HTTP Mapping").
GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Refused(Exception):
    """The call is answered with an error; `status` is an HTTP status, also over gRPC."""

    def __init__(self, text: str, *, status: int = 400, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def google_status(self) -> str:
        """The name of the canonical code, also in `grpc.StatusCode`."""
        return GOOGLE_STATUS.get(self.status, "UNKNOWN")
