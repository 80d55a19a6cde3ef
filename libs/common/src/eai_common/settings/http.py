"""The settings of what faces HTTP: the server, who may call it, and what it is protected by."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator
from pydantic_settings import SettingsConfigDict

from eai_common.credentials import TOKENS_IN_WORDS, ApiToken, parse_api_tokens
from eai_common.settings.base import AllowedNetworks, Duration, Group, Items

__all__ = ["HttpSettings", "JwtSettings", "SecuritySettings"]


def _check_tokens(tokens: SecretStr) -> SecretStr:
    parse_api_tokens(tokens.get_secret_value())
    return tokens


ApiTokens = Annotated[
    SecretStr, AfterValidator(_check_tokens), WithJsonSchema({"type": "string", "takes": TOKENS_IN_WORDS})
]
ReadablePath = Annotated[Path, WithJsonSchema({"type": "string", "takes": "the path of a readable file"})]


class HttpSettings(Group):
    """The HTTP server of every service."""

    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    host: str = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104  # in a container, all
    api_token: ApiTokens = Field(
        default=SecretStr(""),
        description="Tokens of the callers, sent as `Authorization: Bearer` or `X-API-Key`. A plain token has the "
        "role admin. Production requires this or JWTs; see docs/security.md.",
    )
    api_token_file: ReadablePath | None = Field(
        default=None,
        description="File with the value of API_TOKEN. It is read again every CREDENTIAL_ROTATION_INTERVAL.",
    )
    credential_rotation_interval: Duration = Field(
        default=timedelta(hours=24), description="How often API_TOKEN_FILE is read again, without a restart."
    )
    api_compatibility: Literal["described", "predecessor"] = Field(
        default="described",
        description="predecessor: the webhook answers 201 and `processing`, and a user number may be any opaque id.",
    )
    max_request_size_mb: float = Field(default=50, gt=0, le=1024, description="Largest request body, in MiB.")
    upload_timeout_seconds: Duration = Field(
        default=timedelta(seconds=60),
        description="Timeout of a request's body; after it the answer is 408. In transcriber also the timeout of "
        "a download.",
    )
    request_head_timeout: Duration = Field(
        default=timedelta(seconds=10), description="Timeout of a request's line and headers."
    )

    @property
    def is_like_predecessor(self) -> bool:
        return self.api_compatibility == "predecessor"

    @cached_property
    def tokens(self) -> tuple[ApiToken, ...]:
        return parse_api_tokens(self.api_token.get_secret_value())


class JwtSettings(Group):
    """JSON Web Tokens that are taken beside API tokens."""

    model_config = SettingsConfigDict(env_prefix="JWT_")

    secret: SecretStr = Field(
        default=SecretStr(""),
        description="Secret of tokens that are signed with HS256, at least 32 bytes. Empty: no such tokens.",
    )
    jwks_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="URL of the public keys of tokens that are signed with RS256 or ES256; https, unless the "
        "network is trusted. Empty: no such tokens.",
    )
    issuer: str = Field(default="", description="The required `iss` of a token. Required with JWTs.")
    audience: str = Field(default="", description="The required `aud` of a token. Required with JWTs.")
    role_claim: str = Field(
        default="role",
        pattern=r"^[^\s.]+(\.[^\s.]+)*$",
        description="The claim that contains the role, or several. Dots address nested claims (realm_access.roles).",
    )
    leeway: Duration = Field(
        default=timedelta(seconds=30), description="Allowed difference between the issuer's clock and ours."
    )
    jwks_refresh: Duration = Field(
        default=timedelta(minutes=5),
        description="How often the public keys are fetched again. A revoked key stays valid for so long.",
    )

    @property
    def is_used(self) -> bool:
        return bool(self.secret.get_secret_value() or self.jwks_url)

    @model_validator(mode="after")
    def _check_together(self) -> JwtSettings:
        if self.is_used and not (self.issuer and self.audience):
            raise ValueError("JWT_ISSUER and JWT_AUDIENCE: are required with JWT_SECRET or JWT_JWKS_URL")
        if 0 < len(self.secret.get_secret_value().encode()) < 32:
            raise ValueError("JWT_SECRET: got a value that is not shown, takes text of at least 32 bytes")
        return self


class SecuritySettings(Group):
    """What stands between callers and the routes."""

    rate_limit_requests_per_minute: int | None = Field(
        default=None,
        ge=0,
        description="Requests that one client may send in any 60 seconds to all replicas together; 0: no limit. "
        "Unset: 1000, or no limit without authentication (in development every client has the same "
        "address).",
    )
    rate_limit_burst: int = Field(
        default=100,
        ge=0,
        description="Requests above the even rate that one client may send in any RATE_LIMIT_BURST_PERIOD; 0: no "
        "such limit. The defaults allow 266 in 10 s, because 1000 a minute are 166 in 10 s.",
    )
    rate_limit_burst_period: Duration = Field(default=timedelta(seconds=10), description="The period of a burst.")
    ip_allowlist: AllowedNetworks = Field(
        default=(), description="Networks of allowed clients. Empty: all. Probes and metrics are exempt."
    )
    trusted_proxies: AllowedNetworks = Field(
        default=(),
        description="Networks of our own proxies. Only their entries in X-Forwarded-For count.",
    )
    cors_allowed_origins: Items = Field(
        default=(), description="Origins whose pages may call from a browser, or *. Empty: none."
    )
    cors_allowed_methods: Items = Field(default=("GET", "POST"), description="Methods that such pages may use.")
    cors_allowed_headers: Items = Field(
        default=("Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-ID", "traceparent"),
        description="Headers that such pages may send.",
    )
    content_check: Literal["default", "strict"] = Field(
        default="default",
        description="Texts that are refused. default: texts with characters that nobody types, such as control "
        "characters. strict: also texts with HTML that a browser would run; then a question about "
        "such HTML gets 400.",
    )
    enable_security_headers: bool = Field(default=True, description="Send headers that protect browsers.")
    hsts_max_age: int = Field(
        default=31_536_000, ge=0, description="Seconds during which browsers must use https; 0: no such header."
    )
    enable_credential_audit: bool = Field(
        default=False, description="One log line for each accepted or refused credential."
    )
