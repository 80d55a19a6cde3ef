"""JSON Web Tokens: who signed them decides how they are checked, and what they say about their signature does not."""

from __future__ import annotations

import hashlib
from typing import Any

import jwt

from eai_common.credentials import Role
from eai_common.http.callers import Identity, InvalidToken
from eai_common.http.errors import ErrorBody, HttpError
from eai_common.http.jwks import JwksKeys, JwksUnavailable
from eai_common.settings.http import JwtSettings

__all__ = ["JwtVerifier"]

_MOST_BYTES = 8 * 1024
_ROLES = {role.value: role for role in Role}


class JwtVerifier:
    """Checks signature, `exp`, `nbf`, `iat`, `iss` and `aud`, and reads the role.

    A secret is only ever tried with HS256, a public key only with the algorithm of its own kind: a token signed with a
    public key as if it were a secret, or not signed at all, has nothing that it could be checked against.
    """

    def __init__(self, settings: JwtSettings, keys: JwksKeys | None) -> None:
        self._settings = settings
        self._secret = settings.secret.get_secret_value().encode()
        self._keys = keys

    async def verify(self, token: bytes) -> Identity:
        """Who the token is about. Raises InvalidToken, or HttpError 503 while no public key could be had yet."""
        if len(token) > _MOST_BYTES or token.count(b".") != 2:
            raise InvalidToken("unknown")
        try:
            algorithm, key = await self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(type(error).__name__.removesuffix("Error")) from error
        except JwksUnavailable as error:
            raise _cannot_tell() from error
        return self._identity(claims, token)

    async def _key_for(self, header: dict[str, Any]) -> tuple[str, bytes | jwt.PyJWK]:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm == "HS256" and self._secret:
            return "HS256", self._secret
        if algorithm in ("RS256", "ES256") and self._keys is not None:
            key = await self._keys.key(algorithm, key_id if isinstance(key_id, str) else None)
            if key is None:
                raise InvalidToken("UnknownKey")
            return algorithm, key
        raise InvalidToken("UnknownAlgorithm")

    def _identity(self, claims: dict[str, Any], token: bytes) -> Identity:
        subject = claims.get("sub")
        about = f"{claims['iss']}\n{subject}".encode() if isinstance(subject, str) and subject else token
        name = hashlib.sha256(about).hexdigest()[:16]
        return Identity(f"jwt:{name}", f"jwt-{name}", self._role(claims))

    def _role(self, claims: dict[str, Any]) -> Role | None:
        """The highest role that the claim names; None if it names none of ours."""
        found: object = claims
        for name in self._settings.role_claim.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        named = found if isinstance(found, list) else [found]
        roles = [_ROLES[name] for name in named if isinstance(name, str) and name in _ROLES]
        return max(roles, key=list(Role).index, default=None)


def _cannot_tell() -> HttpError:
    body = ErrorBody("Service unavailable", "The token cannot be verified now. Try again later.")
    return HttpError(503, body, headers={"Retry-After": "30"})
