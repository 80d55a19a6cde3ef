"""Who calls: from which address, with which credential, and so in which role."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from eai_common.credentials import ApiToken, Role
from eai_common.http.errors import ErrorBody, HttpError
from eai_common.http.token_store import TokenStore
from eai_common.telemetry import get_logger

__all__ = ["Access", "Identity", "InvalidToken", "TokenVerifier", "caller", "require"]

log = get_logger("eai.access")

_UNAUTHORIZED = ErrorBody("Unauthorized", "Invalid or missing authentication token")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `key` is what belongs to it is kept under: the same for all its requests, and no secret."""

    key: str
    name: str
    role: Role | None
    is_known: bool = True  # by a credential, or because none is asked for

    @classmethod
    def unknown(cls, address: str) -> Identity:
        """Somebody without a good credential."""
        return cls(f"ip:{address}", "anonymous", None, is_known=False)


class InvalidToken(Exception):
    """The text is the reason in one word, for the operator. The client is told nothing of it."""


class TokenVerifier(Protocol):
    """Reads tokens that carry their own proof."""

    async def verify(self, token: bytes) -> Identity:
        """Raises InvalidToken, or HttpError 503 while it cannot tell."""


@dataclass(frozen=True, slots=True)
class Access:
    """What is taken as proof of who calls. With nothing to prove it by, all may do everything (development only)."""

    tokens: Collection[ApiToken] | TokenStore = ()
    verifier: TokenVerifier | None = None
    is_audited: bool = False

    @property
    def is_open(self) -> bool:
        return not self.tokens and self.verifier is None

    def warn_if_open(self) -> None:
        """Log a warning if no authentication is configured."""
        if self.is_open:
            log.warning("authentication_off", reason="API_TOKEN and JWT_… are empty, which only development allows")

    async def identify(self, request: Request, address: str) -> Identity:
        """Who this is; one that is not known goes by its address. A bad credential is for the route to refuse."""
        if self.is_open:
            return Identity(f"ip:{address}", "anonymous", Role.ADMIN)
        if not (token := _read_token(request)):
            return Identity.unknown(address)
        try:
            identity = self._find_holder(token) or await self._verify(token)
        except InvalidToken as invalid:
            if self.is_audited:
                log.info("credential_refused", reason=str(invalid), address=address)
            return Identity.unknown(address)
        if self.is_audited:
            role = identity.role.value if identity.role is not None else None
            log.info("credential_accepted", caller=identity.name, role=role, address=address)
        return identity

    def _find_holder(self, token: bytes) -> Identity | None:
        digest = hashlib.sha256(token).digest()
        # Every one is compared, so that the time taken does not tell which was close.
        found = [known for known in self.tokens if hmac.compare_digest(digest, known.digest)]
        return Identity(f"token:{found[0].name}", found[0].name, found[0].role) if found else None

    async def _verify(self, token: bytes) -> Identity:
        if self.verifier is None:
            raise InvalidToken("unknown")
        return await self.verifier.verify(token)


def caller(request: Request) -> Identity:
    """The caller, as the middleware identified it."""
    identity = request.state.identity
    assert isinstance(identity, Identity)
    return identity


def require(request: Request, role: Role) -> Identity:
    """The caller, if it has the role. Raises HttpError 401 or 403. Source: RFC 6750, section 3."""
    identity = caller(request)
    if not identity.is_known:
        raise HttpError(401, _UNAUTHORIZED, headers={"WWW-Authenticate": 'Bearer realm="eai"'})
    if identity.role is None or not identity.role.includes(role):
        raise HttpError(403, ErrorBody("Forbidden", f"Requires role {role.value}."))
    return identity


def _read_token(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.headers.get("x-api-key", "")
    return token.strip(" ").encode("latin-1")  # the bytes that were sent
