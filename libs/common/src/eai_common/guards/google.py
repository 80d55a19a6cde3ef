"""What every client of Google needs: credentials, where none are needed, and the pause that an error asks for.

Google's libraries are imported where they are used: they cost a deployment without Google nothing.
"""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import orjson

from eai_common.guards.retry_after import bound_pause
from eai_common.settings import SettingsError

if TYPE_CHECKING:
    from datetime import timedelta

    from google.auth.credentials import Credentials

__all__ = ["is_sandbox", "read_google_credentials", "retry_delay"]

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_READERS = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
}
"""Google's reader for each kind; its own general one is deprecated, because a stranger's file could lead it astray."""


def read_google_credentials(source: str) -> Credentials:
    """Return the credentials of a key's JSON (plain or base64), of the path of a file with one, or of the machine.

    Takes the kinds `service_account`, `external_account` (workload identity federation) and `authorized_user`. Empty
    means the machine's own identity. Blocks: a file is read, and the machine's identity may be asked for over the
    network. Raises SettingsError, which does not show the key.
    """
    from google.auth.exceptions import GoogleAuthError  # 0.2 s and 20 MB, so only where Google is used

    try:
        return _read(source)
    except (GoogleAuthError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            [
                "GOOGLE_APPLICATION_CREDENTIALS: got a value that is not shown, takes a key file's path, the key's "
                f"JSON, or nothing where the machine has an identity ({type(error).__name__})"
            ]
        ) from error


def _read(source: str) -> Credentials:
    import google.auth

    if not source:
        credentials, _ = google.auth.default(scopes=_SCOPES)
        return credentials
    key = orjson.loads(_json_in(source) or Path(source).expanduser().read_bytes())
    module, reader = _READERS[key["type"]]
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


def is_sandbox(address: str, sandbox_host: str = "") -> bool:
    """Whether a URL or `host:port` is this very machine or `sandbox_host`, which are asked without TLS or credentials.

    Of all names only localhost and `sandbox_host` are: no other is looked up.
    """
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    if host == "localhost" or (host and host == sandbox_host.lower()):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def retry_delay(details: Iterable[object]) -> timedelta | None:
    """Return the pause that google.rpc.RetryInfo among a gRPC error's details asks for, bounded; None without one."""
    from google.rpc.error_details_pb2 import RetryInfo

    for detail in details:
        if isinstance(detail, RetryInfo):
            return bound_pause(detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9)
    return None
