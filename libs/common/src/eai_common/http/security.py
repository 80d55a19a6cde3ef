"""Checks each request before its route: allowlist, caller, rate limit. Adds the security headers to each answer."""

from __future__ import annotations

from contextlib import suppress

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eai_common.http.addresses import find_client_address, is_in, name_subscriber
from eai_common.http.callers import Identity
from eai_common.http.errors import ErrorBody, HttpError, error_response, internal_error
from eai_common.http.limits import PendingLimit, SelfLimitedRoute
from eai_common.http.security_policy import SecurityPolicy
from eai_common.settings.http import SecuritySettings
from eai_common.telemetry import get_logger

__all__ = ["ProbeRoute", "SecurityMiddleware", "add_cors"]

log = get_logger("eai.http")

_EXPOSED_HEADERS = (
    "X-Request-ID",
    "X-Correlation-ID",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
    "Location",
    "Idempotent-Replayed",
)


class ProbeRoute(Route):
    """A route for orchestrators and dashboards: open to all, not rate-limited, not logged."""


class SecurityMiddleware:
    """Lets a request through to its route, or answers with the reason why not."""

    def __init__(self, app: ASGIApp, policy: SecurityPolicy) -> None:
        self._app = app
        self._access = policy.access
        self._limits = policy.limits
        self._settings = policy.settings
        self._headers = make_security_headers(policy.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.limit = None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                limit = await self._count(request)
                given = {name.lower() for name, _ in message["headers"]}
                ours = [pair for pair in self._headers if pair[0] not in given]
                message["headers"] = [*message["headers"], *ours, *(limit.headers if limit is not None else ())]
            await send(message)

        try:
            await self._check(request)
        except HttpError as refused:
            await error_response(request, refused)(scope, receive, send_with_headers)
            return
        except Exception:  # a bug, outside of what answers 500 for the routes
            log.exception("request_failed")
            await error_response(request, internal_error())(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    async def _check(self, request: Request) -> None:
        route = getattr(request.state, "route", None)
        address = find_client_address(request, self._settings.trusted_proxies)
        allowlist = self._settings.ip_allowlist
        is_probe = isinstance(route, ProbeRoute)
        if allowlist and not is_probe and (address is None or not is_in(address, allowlist)):
            raise HttpError(403, ErrorBody("Forbidden", "Client address is not allowed."))
        identity = await self._identity(request, name_subscriber(address), is_probe=is_probe)
        request.state.identity = identity
        if self._limits is None or is_probe:
            return
        request.state.limit = self._limits.pending(identity)
        if not isinstance(route, SelfLimitedRoute):
            await self._limits.admit(request.state.limit)

    async def _count(self, request: Request) -> PendingLimit | None:
        """The request's count. A request that was not counted yet is counted now, and is not refused any more."""
        limit: PendingLimit | None = request.state.limit
        if limit is not None and self._limits is not None and not limit.was_tried:
            with suppress(HttpError):
                await self._limits.admit(limit)
        return limit

    async def _identity(self, request: Request, address: str, *, is_probe: bool) -> Identity:
        try:
            return await self._access.identify(request, address)
        except HttpError:
            if (
                is_probe
            ):  # a probe must pass without credentials: an issuer that is out of reach takes no pod out of service
                return Identity.unknown(address)
            raise


def add_cors(app: ASGIApp, settings: SecuritySettings) -> ASGIApp:
    """The app, open to pages of the allowed origins. Tokens are sent in headers, so no cookies are allowed."""
    if not settings.cors_allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_allowed_origins,
        allow_methods=settings.cors_allowed_methods,
        allow_headers=settings.cors_allowed_headers,
        expose_headers=_EXPOSED_HEADERS,
    )


def make_security_headers(settings: SecuritySettings) -> list[tuple[bytes, bytes]]:
    """The headers of each answer; a route's own header of that name wins. Source: OWASP REST Security Cheat Sheet."""
    if not settings.enable_security_headers:
        return []
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    if settings.hsts_max_age:
        # On plain http a browser ignores it (source: RFC 6797, section 8.1), so it may go out behind any proxy.
        headers["strict-transport-security"] = f"max-age={settings.hsts_max_age}"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
