"""Who may call: bearer tokens from API_TOKEN, compared in constant time, kept as hashes only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from eai_common.http.errors import ErrorBody, HttpError

__all__ = ["TokenGuard"]

_REFUSED = ErrorBody("Unauthorized", "Invalid or missing authentication token")


class TokenGuard:
    """Lets a request pass if it carries one of the tokens, or if there are none (development only)."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token.encode()) for token in tokens]

    @property
    def is_open(self) -> bool:
        return not self._digests

    def check(self, request: Request) -> None:
        """Raises HttpError 401. Source: RFC 6750, section 2.1 and 3."""
        if self.is_open or self._knows(_presented(request)):
            return
        raise HttpError(401, _REFUSED, headers={"WWW-Authenticate": 'Bearer realm="eai"'})

    def _knows(self, token: bytes) -> bool:
        digest = _digest(token)
        # Every one is compared, so that the time taken does not tell which was close.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _presented(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.headers.get("x-api-key", "")
    return token.strip(" ").encode("latin-1")  # the bytes that were sent


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
