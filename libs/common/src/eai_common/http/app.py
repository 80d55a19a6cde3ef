"""Builds the ASGI app of a process: its routes inside the middleware that each request passes."""

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

from eai_common.http.errors import ErrorBody, HttpError, error_handlers, error_response
from eai_common.http.security import ProbeRoute, SecurityMiddleware, add_cors
from eai_common.http.security_policy import SecurityPolicy
from eai_common.ids import Ids
from eai_common.settings import HttpSettings, TelemetrySettings
from eai_common.telemetry import CORRELATION_ID, Metrics, Tracing, collect_line, get_logger, log_context, trace_ids

__all__ = ["HttpResources", "build_app"]

log = get_logger("eai.http")

_REQUEST_ID_BYTES = 128
_LINGER, _LINGER_BYTES = timedelta(seconds=2), 10 * 2**20


@dataclass(frozen=True, slots=True)
class HttpResources:
    """What an app needs."""

    ids: Ids
    metrics: Metrics
    tracing: Tracing
    settings: HttpSettings
    telemetry_settings: TelemetrySettings
    policy: SecurityPolicy


def build_app(routes: Sequence[BaseRoute], resources: HttpResources) -> ASGIApp:
    """The app for these routes."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(_BodyLimitMiddleware, resources=resources)],
        exception_handlers=dict(error_handlers),
    )
    # Around all of Starlette, not one of its middlewares: those are inside of what answers 500.
    return _ObservingMiddleware(
        add_cors(SecurityMiddleware(app, resources.policy), resources.policy.settings), resources, routes
    )


class _ObservingMiddleware:
    """Gives the request an id and a span, counts it, and logs it in one line."""

    def __init__(self, app: ASGIApp, resources: HttpResources, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._resources = resources
        self._routes = routes
        self._logs_all = resources.telemetry_settings.enable_request_logging

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id, correlation_id = self._ids(request)
        request.state.request_id = request_id
        ids = [
            (b"x-request-id", request_id.encode("latin-1")),
            (CORRELATION_ID.encode(), correlation_id.encode("latin-1")),
        ]
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *ids]
            await send(message)

        route = request.state.route = _match(self._routes, scope)
        endpoint = "unmatched" if route is None else str(getattr(route, "path", "mounted"))
        metrics = self._resources.metrics
        began = time.perf_counter()
        with (
            metrics.http_in_flight.track_inprogress(),
            self._resources.tracing.span(
                f"{scope['method']} {endpoint}", carrier=request.headers, kind=SpanKind.SERVER
            ),
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

    def _ids(self, request: Request) -> tuple[str, str]:
        """The request id and the correlation id: each the caller's own, else the other, else a new one."""
        request_id, correlation_id = _valid_id(request, "x-request-id"), _valid_id(request, CORRELATION_ID)
        request_id = request_id or correlation_id or self._resources.ids.random_id()
        return request_id, correlation_id or request_id


class _BodyLimitMiddleware:
    """Limits the size of the body and its time while it streams in, whatever Content-Length says."""

    def __init__(self, app: ASGIApp, resources: HttpResources) -> None:
        self._app = app
        self._limit_mb = resources.settings.max_request_size_mb
        self._limit_bytes = int(self._limit_mb * 2**20)
        self._timeout_s = resources.settings.upload_timeout_seconds.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            ErrorBody("Payload too large", f"Request body is larger than {self._limit_mb:g} MiB."),
            headers={"Connection": "close"},
        )
        request = Request(scope)
        if _declared_length(request) > self._limit_bytes:
            await _discard_rest(receive)
            await error_response(request, too_large)(scope, receive, send)
            return
        received, is_whole = 0, False
        due = asyncio.get_running_loop().time() + self._timeout_s

        async def receive_limited() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()  # only the disconnect follows, and it may take any time
            message = await _receive_by(receive, due)
            is_whole = not message.get("more_body")
            received += len(message.get("body", b""))
            if received > self._limit_bytes:
                if message.get("more_body"):
                    await _discard_rest(receive)
                raise too_large
            return message

        await self._app(scope, receive_limited, send)


async def _receive_by(receive: Receive, due: float) -> Message:
    try:
        async with asyncio.timeout_at(due):
            return await receive()
    except TimeoutError as error:
        body = ErrorBody("Request timeout", "Request body did not arrive in time.")
        raise HttpError(HTTPStatus.REQUEST_TIMEOUT, body, headers={"Connection": "close"}) from error


async def _discard_rest(receive: Receive) -> None:
    """Read what still comes, up to a limit: closing a connection with unread bytes resets it and loses the answer."""
    discarded = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER.total_seconds()):
            while discarded < _LINGER_BYTES:
                message = await receive()
                discarded += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _valid_id(request: Request, header: str) -> str | None:
    """The caller's own id, if it is short and printable enough for headers and logs."""
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


def _match(routes: Sequence[BaseRoute], scope: Scope) -> BaseRoute | None:
    """The route of this path. Metrics get its template, never the raw path: a label must stay bounded."""
    return next((route for route in routes if route.matches(scope)[0] is not Match.NONE), None)
