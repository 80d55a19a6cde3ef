"""Who may call and how often, made from a service's settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from eai_common.background import run_alongside
from eai_common.clock import Clock
from eai_common.http.callers import Access
from eai_common.http.limits import RateLimits, make_rate_windows
from eai_common.http.token_store import TokenStore
from eai_common.settings.http import HttpSettings, JwtSettings, SecuritySettings
from eai_common.store import RedisClient, SlidingWindow
from eai_common.telemetry import Metrics, get_logger

if TYPE_CHECKING:
    from eai_common.http.jwts import JwtVerifier

__all__ = ["PolicySettings", "SecurityPolicy", "open_security_policy"]

log = get_logger("eai.access")

_REDIS_TIMEOUT = timedelta(milliseconds=500)  # a client waits, and is let in without Redis, too


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """What `SecurityMiddleware` enforces. Without `limits`, callers may send as many requests as they like."""

    access: Access
    settings: SecuritySettings
    limits: RateLimits | None = None


class PolicySettings(Protocol):
    """The groups that a policy is made from."""

    @property
    def http(self) -> HttpSettings: ...

    @property
    def jwt(self) -> JwtSettings: ...

    @property
    def security(self) -> SecuritySettings: ...


@asynccontextmanager
async def open_security_policy(
    settings: PolicySettings, *, redis: RedisClient, clock: Clock, metrics: Metrics
) -> AsyncIterator[SecurityPolicy]:
    """The policy, as long as the context is open."""
    async with AsyncExitStack() as stack:
        verifier = await _open_verifier(settings.jwt, stack) if settings.jwt.is_used else None
        tokens = TokenStore(settings.http.tokens)
        if (file := settings.http.api_token_file) is not None:
            keep_fresh = tokens.keep_fresh(file, settings.http.credential_rotation_interval)
            await stack.enter_async_context(run_alongside({"api-tokens": keep_fresh}))
        access = Access(tokens, verifier, settings.security.enable_credential_audit)
        limits = None
        if windows := make_rate_windows(settings.security, is_open=access.is_open):
            limits = RateLimits(windows, SlidingWindow(redis.with_timeout(_REDIS_TIMEOUT)), clock, metrics)
        yield SecurityPolicy(access, settings.security, limits)


async def _open_verifier(settings: JwtSettings, stack: AsyncExitStack) -> JwtVerifier:
    # Here and not above: cryptography is 9 MB that most processes do not need.
    from eai_common.http.jwks import open_jwks
    from eai_common.http.jwts import JwtVerifier

    keys = None
    if settings.jwks_url:
        keys = await stack.enter_async_context(open_jwks(settings.jwks_url, settings.jwks_refresh))
    return JwtVerifier(settings, keys)
