"""Google credentials: read once, refreshed off the loop, anonymous only towards this very machine."""

from __future__ import annotations

import asyncio
import base64
import binascii
import importlib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import orjson

from eai_agent_router.errors import AgentUnauthorized, AgentUnavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["GoogleToken", "is_loopback", "read_credentials"]

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_READERS = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
}
"""Google's reader for each kind; its own general one is deprecated, because it does not say what it takes."""


def is_loopback(address: str) -> bool:
    """Whether a URL or `host:port` is this very machine. Only localhost is, of all names: no other is looked up."""
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_credentials(source: str) -> Credentials:
    """Credentials from a key's JSON (plain or base64), the path of a file with one, or, if empty, the environment.

    Takes the kinds `service_account`, `external_account` (workload identity federation) and `authorized_user`. Blocks:
    a file is read, and the environment may be asked over the network. Raises google.auth.exceptions.GoogleAuthError,
    OSError or ValueError.
    """
    import google.auth  # 0.2 s and 20 MB, so only where Google is used

    if not source:
        credentials, _ = google.auth.default(scopes=_SCOPES)
        return credentials
    key = orjson.loads(_json_in(source) or Path(source).expanduser().read_bytes())
    kind = key.get("type")
    if kind not in _READERS:
        raise ValueError(f"takes a key whose type is one of {', '.join(_READERS)}")
    module, reader = _READERS[kind]
    read = getattr(importlib.import_module(module).Credentials, reader)
    return cast("Credentials", read(key, scopes=_SCOPES))


def _json_in(source: str) -> bytes | None:
    if source.lstrip().startswith("{"):
        return source.encode()
    try:
        decoded = base64.b64decode(source, validate=True)
    except binascii.Error:
        return None
    return decoded if decoded.lstrip().startswith(b"{") else None


class GoogleToken:
    """An access token that stays valid; the calls that find it expired wait for one refresh together."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._refreshing = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """Raises AgentUnauthorized if Google refuses us, AgentUnavailable if it cannot be reached."""
        async with self._refreshing:
            if not self._credentials.valid:
                await asyncio.to_thread(self._refresh)
        return {"authorization": f"Bearer {self._credentials.token}"}

    def _refresh(self) -> None:
        from google.auth.exceptions import RefreshError, TransportError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(Request())  # type: ignore[no-untyped-call]
        except TransportError as error:
            raise AgentUnavailable("Google's token service is out of reach") from error
        except RefreshError as error:
            raise AgentUnauthorized("Google gave no access token for GOOGLE_APPLICATION_CREDENTIALS") from error
