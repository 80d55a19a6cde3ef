"""Builds a service's ASGI app: its routes and probes, wrapped in what every request goes through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eai_common.http.callers import Access
from eai_common.http.errors import ErrorBody, HttpError, error_handlers, error_response
from eai_common.http.front import Front, ProbeRoute, Protection, with_cors
from eai_common.ids import Ids
from eai_common.settings import HttpSettings, ProtectionSettings, TelemetrySettings
from eai_common.telemetry import CORRELATION_ID, Metrics, Tracing, collect_line, get_logger, log_context, trace_ids

__all__ = ["HttpParts", "build_app"]

log = get_logger("eai.http")

_REQUEST_ID_BYTES = 128
_LINGER, _LINGER_BYTES = timedelta(seconds=2), 10 * 2**20


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the HTTP side stands on. Without a `protection`, API tokens are asked for, and nothing is limited."""

    ids: Ids
    metrics: Metrics
    tracing: Tracing
    settings: HttpSettings
    telemetry_settings: TelemetrySettings
    protection: Protection | None = None


def build_app(routes: Sequence[BaseRoute], parts: HttpParts) -> ASGIApp:
    """The app for these routes."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(_LimitedBody, parts=parts)],
        exception_handlers=dict(error_handlers),
    )
    protection = parts.protection or Protection(Access(parts.settings.tokens), ProtectionSettings.read({}))
    # Around all of Starlette, not one of its middlewares: those are inside of what answers 500.
    return _Observed(with_cors(Front(app, protection), protection.settings), parts, routes)


class _Observed:
    """Gives the request an id and a span, counts it, and logs it in one line."""

    def __init__(self, app: ASGIApp, parts: HttpParts, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._parts = parts
        self._routes = routes
        self._logs_all = parts.telemetry_settings.enable_request_logging

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id, correlation_id = self._names(request)
        request.state.request_id = request_id
        told = [
            (b"x-request-id", request_id.encode("latin-1")),
            (CORRELATION_ID.encode(), correlation_id.encode("latin-1")),
        ]
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *told]
            await send(message)

        route = request.state.route = _matched(self._routes, scope)
        endpoint = "unmatched" if route is None else str(getattr(route, "path", "mounted"))
        metrics = self._parts.metrics
        began = time.perf_counter()
        with (
            metrics.http_in_flight.track_inprogress(),
            self._parts.tracing.span(f"{scope['method']} {endpoint}", carrier=request.headers, kind=SpanKind.SERVER),
            log_context(request_id=request_id, correlation_id=correlation_id, **trace_ids()),
            collect_line() as line,
        ):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                took_s = time.perf_counter() - began
                metrics.http_requests.labels(_method(scope), endpoint, str(status)).inc()
                metrics.http_duration.labels(_method(scope), endpoint).observe(took_s)
                if line or (self._logs_all and not isinstance(route, ProbeRoute)):
                    about = {"method": scope["method"], "endpoint": endpoint, "status": status}
                    log.info("request_answered", **about, duration_ms=round(took_s * 1000, 1), **line)

    def _names(self, request: Request) -> tuple[str, str]:
        """The ids of the request and of what it is a part of. Each is the caller's own; else the other; else made."""
        request_id, correlation_id = _given_id(request, "x-request-id"), _given_id(request, CORRELATION_ID)
        request_id = request_id or correlation_id or self._parts.ids.random_id()
        return request_id, correlation_id or request_id


class _LimitedBody:
    """Counts the body while it streams in, and its time: a Content-Length that lies changes nothing."""

    def __init__(self, app: ASGIApp, parts: HttpParts) -> None:
        self._app = app
        self._limit_mb = parts.settings.max_request_size_mb
        self._limit_bytes = int(self._limit_mb * 2**20)
        self._timeout_s = parts.settings.upload_timeout_seconds.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            ErrorBody("Payload too large", f"The body may have {self._limit_mb:g} MiB at most"),
            headers={"Connection": "close"},
        )
        request = Request(scope)
        if _declared_length(request) > self._limit_bytes:
            await _discard_rest(receive)
            await error_response(request, too_large)(scope, receive, send)
            return
        received, is_whole = 0, False
        due = asyncio.get_running_loop().time() + self._timeout_s

        async def counted() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()  # what follows is the client's leaving, which may take as long as it likes
            message = await _in_time(receive, due)
            is_whole = not message.get("more_body")
            received += len(message.get("body", b""))
            if received > self._limit_bytes:
                if message.get("more_body"):
                    await _discard_rest(receive)
                raise too_large
            return message

        await self._app(scope, counted, send)


async def _in_time(receive: Receive, due: float) -> Message:
    try:
        async with asyncio.timeout_at(due):
            return await receive()
    except TimeoutError as error:
        body = ErrorBody("Request timeout", "The body did not come in time")
        raise HttpError(HTTPStatus.REQUEST_TIMEOUT, body, headers={"Connection": "close"}) from error


async def _discard_rest(receive: Receive) -> None:
    """Read what still comes, within reason: a connection that is closed with bytes unread is reset, answer and all."""
    discarded = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER.total_seconds()):
            while discarded < _LINGER_BYTES:
                message = await receive()
                discarded += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _given_id(request: Request, header: str) -> str | None:
    """The caller's own id, when it is short and printable enough to be put into headers and logs."""
    given = request.headers.get(header)
    if given is None or not 0 < len(given) <= _REQUEST_ID_BYTES or not given.isascii() or not given.isprintable():
        return None
    return given


def _declared_length(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


def _matched(routes: Sequence[BaseRoute], scope: Scope) -> BaseRoute | None:
    """The route whose path this is. Its template goes into metrics, never the raw path: a label must stay bounded."""
    return next((route for route in routes if route.matches(scope)[0] is not Match.NONE), None)
