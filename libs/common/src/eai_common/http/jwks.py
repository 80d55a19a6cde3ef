"""The public keys that an issuer signs its tokens with, fetched from its JWKS address and kept.

The address is an operator's setting, not a caller's, and often inside the cluster: so a plain client with a deadline
and a size limit, not the guarded one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NoReturn

import httpx
import jwt
import orjson

from eai_common.background import run_alongside
from eai_common.telemetry import get_logger

__all__ = ["Fetch", "JwksKeys", "JwksUnavailable", "fetch_jwks", "open_jwks"]

log = get_logger("eai.access")

_TIMEOUT_S = 3.0
_MOST_BYTES = 256 * 1024
_SHORTEST_INTERVAL = timedelta(seconds=30)
_CURVES = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}

Fetch = Callable[[], Awaitable[bytes]]
"""Gives the key set's JSON. Raises JwksUnavailable."""


class JwksUnavailable(Exception):
    """The keys cannot be had now."""


class JwksKeys:
    """The keys by algorithm and id. Those that are known go on working while the issuer is out of reach."""

    def __init__(self, fetch: Fetch, refresh: timedelta) -> None:
        self._fetch = fetch
        self._interval = refresh
        self._keys: Mapping[tuple[str, str | None], jwt.PyJWK] = {}
        self._refreshed_s: float | None = None
        self._refreshing = asyncio.Lock()

    async def key(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        """The key for such a token; None when the issuer has none. A key not seen before is looked for, now and then.

        Raises JwksUnavailable while no keys were ever had.
        """
        if (found := self._find(algorithm, key_id)) is not None:
            return found
        async with self._refreshing:  # those who came meanwhile find what the first one brought
            if self._find(algorithm, key_id) is None and self._may_refresh():
                await self.refresh()
        if not self._keys:
            raise JwksUnavailable("no keys were ever fetched")
        return self._find(algorithm, key_id)

    async def refresh(self) -> None:
        """Fetch the keys; what is known stays when that fails or brings none."""
        self._refreshed_s = asyncio.get_running_loop().time()
        try:
            keys = _parse(await self._fetch())
        except JwksUnavailable as error:
            log.warning("jwks_unavailable", error=str(error), known_keys=len(self._keys))
            return
        if keys.keys() != self._keys.keys():
            log.info("jwks_changed", keys=len(keys))
        self._keys = keys

    async def keep_fresh(self) -> NoReturn:
        """Fetch now, and again and again, until cancelled."""
        while True:
            async with self._refreshing:
                await self.refresh()
            pause = self._interval if self._keys else _SHORTEST_INTERVAL
            await asyncio.sleep(pause.total_seconds())

    def _find(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is not None:
            return self._keys.get((algorithm, key_id))
        fitting = [key for (of, _), key in self._keys.items() if of == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _may_refresh(self) -> bool:
        """Strangers can send any key id: they must not make us ask the issuer for each."""
        return (
            self._refreshed_s is None
            or asyncio.get_running_loop().time() - self._refreshed_s >= _SHORTEST_INTERVAL.total_seconds()
        )


@asynccontextmanager
async def open_jwks(url: str, refresh: timedelta) -> AsyncIterator[JwksKeys]:
    """Keys that are kept fresh as long as the context is open."""
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client:
        keys = JwksKeys(lambda: fetch_jwks(client, url), refresh)
        async with run_alongside({"jwks": keys.keep_fresh()}):
            yield keys


async def fetch_jwks(client: httpx.AsyncClient, url: str) -> bytes:
    """The key set's JSON. Raises JwksUnavailable, at the latest after three seconds."""
    body = bytearray()
    try:
        async with asyncio.timeout(_TIMEOUT_S), client.stream("GET", url) as response:
            if response.status_code != 200:
                raise JwksUnavailable(f"answered {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise JwksUnavailable(f"has more than {_MOST_BYTES} bytes")
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        raise JwksUnavailable(type(error).__name__) from error
    return bytes(body)


def _parse(body: bytes) -> Mapping[tuple[str, str | None], jwt.PyJWK]:
    try:
        found = orjson.loads(body)["keys"]
        keys = dict(pair for entry in found if (pair := _parse_key(entry)) is not None)
    except (ValueError, KeyError, TypeError) as error:
        raise JwksUnavailable(f"is no key set ({type(error).__name__})") from error
    if not keys:
        raise JwksUnavailable("holds no key for RS256 or ES256")
    return keys


def _parse_key(entry: Any) -> tuple[tuple[str, str | None], jwt.PyJWK] | None:
    """A public key to check signatures with. The algorithm is the key's kind, never what a token says."""
    if not isinstance(entry, dict):
        return None
    kind = entry.get("kty")
    algorithm = _CURVES.get((str(kind), entry.get("crv") if kind == "EC" else None))
    if algorithm is None or entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK.from_dict(entry, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None  # one key that cannot be read does not take the others along
    return (algorithm, key.key_id), key
