"""An issuer of JSON Web Tokens for tests: it signs, publishes and rotates its keys, and can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eai_common.http.server import bind_socket, serve

__all__ = ["AUDIENCE", "ISSUER", "SECRET", "Issuer", "open_issuer"]

ISSUER, AUDIENCE, SECRET = "https://issuer.example", "eai-gateway", "s" * 32

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def _new_keys(number: int) -> dict[str, PrivateKey]:
    return {
        f"rsa-{number}": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        f"ec-{number}": ec.generate_private_key(ec.SECP256R1()),
    }


@dataclass
class Issuer:
    """`published` are the keys that it signs with; its address answers with `answers` instead, while that is set."""

    url: str = ""
    published: dict[str, PrivateKey] = field(default_factory=lambda: _new_keys(1))
    answers: Response | None = None
    times_asked: int = 0
    _generation: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make a service take its tokens."""
        return {"JWT_JWKS_URL": self.url, "JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}

    def rotate(self) -> None:
        """Sign with new keys from now on; the old ones are published no more."""
        self._generation += 1
        self.published = _new_keys(self._generation)

    def claims(self, **other: Any) -> dict[str, Any]:
        """What a good token claims; `other` claims go before, those of None are left out."""
        now = datetime.now(UTC)
        given = {"sub": "someone", "iss": ISSUER, "aud": AUDIENCE, "exp": now + timedelta(minutes=5), "role": "admin"}
        return {name: value for name, value in {**given, **other}.items() if value is not None}

    def token(self, algorithm: str = "RS256", **claims: Any) -> str:
        """A token signed with the key in use."""
        if algorithm == "HS256":
            return jwt.encode(self.claims(**claims), SECRET, algorithm)
        key_id = f"{'ec' if algorithm == 'ES256' else 'rsa'}-{self._generation}"
        return jwt.encode(self.claims(**claims), self.published[key_id], algorithm, headers={"kid": key_id})

    def key_set(self) -> bytes:
        """The public keys as a JWKS."""
        return orjson.dumps({"keys": [_as_jwk(key_id, key) for key_id, key in self.published.items()]})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert Request(scope).url.path == "/jwks.json"
        self.times_asked += 1
        answer = self.answers or Response(self.key_set(), media_type="application/json")
        await answer(scope, receive, send)


@asynccontextmanager
async def open_issuer(issuer: Issuer | None = None) -> AsyncIterator[Issuer]:
    """An issuer that publishes its keys on a port of its own."""
    issuer, stop = issuer or Issuer(), asyncio.Event()
    listener = bind_socket("127.0.0.1", 0)
    listener.listen()
    host, port = listener.getsockname()
    issuer.url = f"http://{host}:{port}/jwks.json"
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(issuer, listener, stop, grace_s=1))
        try:
            yield issuer
        finally:
            stop.set()


def _as_jwk(key_id: str, key: PrivateKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": key_id, "use": "sig"}
