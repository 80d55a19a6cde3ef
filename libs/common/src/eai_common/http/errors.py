"""Every error answer is JSON: `{"error", "message"}`, with `details` for validation and the request's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

__all__ = [
    "ErrorBody",
    "FieldError",
    "HttpError",
    "error_handlers",
    "error_response",
    "internal_error",
    "json_response",
]


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a body or query."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of an error answer."""

    error: str
    message: str
    details: Sequence[FieldError] = ()
    extra: Mapping[str, str | int] = field(default_factory=dict)


class HttpError(Exception):
    """Ends the request with this answer."""

    def __init__(self, status: int, body: ErrorBody, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body.error}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON; bytes are taken to be JSON already."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(body, status, headers, media_type="application/json")


def error_response(request: Request, error: HttpError) -> Response:
    """The answer for an HttpError."""
    body = error.body
    content: dict[str, object] = {"error": body.error, "message": body.message, **body.extra}
    if body.details:
        content["details"] = [{"field": detail.field, "message": detail.message} for detail in body.details]
    request_id = getattr(request.state, "request_id", None)
    if request_id is not None:
        content["request_id"] = request_id
    return json_response(content, error.status, error.headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error_response(request, error)


async def _on_framework_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, method not allowed."""
    assert isinstance(error, HTTPException)
    body = ErrorBody(HTTPStatus(error.status_code).phrase, _MESSAGES.get(error.status_code, error.detail))
    return error_response(request, HttpError(error.status_code, body, headers=error.headers))


def internal_error() -> HttpError:
    """The answer to a bug, without internals."""
    return HttpError(500, ErrorBody("Internal server error", "Internal error. It was logged."))


async def _on_bug(request: Request, error: Exception) -> Response:
    """The server logs the traceback."""
    return error_response(request, internal_error())


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """The client left before its body was complete. Nobody reads this; it is for the metrics (source: nginx' 499)."""
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


_CLIENT_CLOSED_REQUEST = 499
_MESSAGES = {404: "Not found.", 405: "Method not allowed."}

error_handlers = {
    HttpError: _on_http_error,
    HTTPException: _on_framework_error,
    ClientDisconnect: _on_disconnect,
    Exception: _on_bug,
}
"""For Starlette's `exception_handlers`."""
