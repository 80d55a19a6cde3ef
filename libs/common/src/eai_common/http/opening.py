"""Opens what the HTTP side stands on, from a service's settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from eai_common.background import run_alongside
from eai_common.clock import Clock
from eai_common.http.callers import Access
from eai_common.http.front import Protection
from eai_common.http.limits import RateLimits, rate_windows
from eai_common.http.token_book import TokenBook
from eai_common.settings.http import HttpSettings, JwtSettings, ProtectionSettings
from eai_common.store import RedisClient, SlidingWindow, open_batcher
from eai_common.telemetry import Metrics, get_logger

if TYPE_CHECKING:
    from eai_common.http.jwts import JwtVerifier

__all__ = ["ProtectedSettings", "open_protection"]

log = get_logger("eai.access")


class ProtectedSettings(Protocol):
    """The groups that say what stands before the routes."""

    @property
    def http(self) -> HttpSettings: ...

    @property
    def jwt(self) -> JwtSettings: ...

    @property
    def protection(self) -> ProtectionSettings: ...


@asynccontextmanager
async def open_protection(
    settings: ProtectedSettings, *, redis: RedisClient, clock: Clock, metrics: Metrics
) -> AsyncIterator[Protection]:
    """What stands before the routes, as long as the context is open."""
    async with AsyncExitStack() as stack:
        verifier = await _open_verifier(settings.jwt, stack) if settings.jwt.is_used else None
        book = TokenBook(settings.http.tokens)
        if (file := settings.http.api_token_file) is not None:
            keep_fresh = book.keep_fresh(file, settings.http.credential_rotation_interval)
            await stack.enter_async_context(run_alongside({"api-tokens": keep_fresh}))
        access = Access(book, verifier, settings.protection.enable_credential_audit)
        limits = None
        if windows := rate_windows(settings.protection, is_open=access.is_open):
            batcher = await stack.enter_async_context(open_batcher(redis.driver))
            limits = RateLimits(windows, SlidingWindow(redis), batcher, clock, metrics)
        yield Protection(access, settings.protection, limits)


async def _open_verifier(settings: JwtSettings, stack: AsyncExitStack) -> JwtVerifier:
    # Here and not above: cryptography is 9 MB that most processes do not need.
    from eai_common.http.jwks import open_jwks
    from eai_common.http.jwts import JwtVerifier

    keys = None
    if settings.jwks_url:
        keys = await stack.enter_async_context(open_jwks(settings.jwks_url, settings.jwks_refresh))
    return JwtVerifier(settings, keys)
