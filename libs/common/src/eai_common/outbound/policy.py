"""Where a guarded client may go and how much it accepts, as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_settings import NoDecode

from eai_common.outbound.addresses import IPAddress, IPNetwork, is_public

__all__ = ["AllowedHosts", "HostRule", "OutboundPolicy"]

_HOST = re.compile(r"(\.?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)+|[0-9a-f:.]+")


@dataclass(frozen=True, slots=True)
class HostRule:
    """One host, or with a leading dot a domain and all hosts under it. Never a part of a name."""

    host: str

    @classmethod
    def parse(cls, text: str) -> HostRule:
        """Read `media.example.org`, `.example.org`, `*.example.org` or `https://media.example.org/`.

        Raises ValueError for anything else; a path too, because a rule that ignored it would allow more than it says.
        """
        host = re.sub(r"^https?://", "", text.strip().lower()).removesuffix("/").removesuffix(".")
        host = host[1:] if host.startswith("*.") else host.strip("[]")
        if _HOST.fullmatch(host) is None:
            raise ValueError("not a host")
        return cls(host)

    def matches(self, host: str) -> bool:
        """Whether `host`, in lower case and ASCII, is the host or lies in the domain."""
        if self.host.startswith("."):
            return host == self.host[1:] or host.endswith(self.host)
        return host == self.host


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """The limits of a guarded client. The defaults allow any public host over TLS on port 443."""

    allow_http: bool = False
    allowed_hosts: tuple[HostRule, ...] = ()  # empty: any host that is public
    allowed_ports: frozenset[int] = frozenset({80, 443})
    allowed_networks: tuple[IPNetwork, ...] = ()  # reachable though not public, on any port: for a sandbox, or a mirror
    max_bytes: int = 25 * 1024 * 1024  # of a body, as sent and as unpacked
    max_redirects: int = 5
    connect_limit: timedelta = timedelta(seconds=5)  # for each address tried
    first_byte_limit: timedelta = timedelta(seconds=15)  # from the start to the answer's headers, for each redirect
    stall_limit: timedelta = timedelta(seconds=10)  # without a byte
    max_connections: int = 100

    def allows_host(self, host: str) -> bool:
        """Whether the allowlist, if there is one, has the host."""
        return not self.allowed_hosts or any(rule.matches(host) for rule in self.allowed_hosts)

    def allows_address(self, address: IPAddress, port: int) -> bool:
        """Whether a connection may be opened to exactly this address and port."""
        if any(address in network for network in self.allowed_networks):
            return True
        return is_public(address) and port in self.allowed_ports


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _parse_hosts(value: object) -> object:
    return tuple(HostRule.parse(part) if isinstance(part, str) else part for part in _require_sequence(value))


def _require_sequence(value: object) -> Sequence[object]:
    parts = _split(value)
    if not isinstance(parts, Sequence):
        raise ValueError("not a list")  # pydantic reports ValueError, and lets TypeError through
    return parts


AllowedHosts = Annotated[
    tuple[HostRule, ...],
    NoDecode,
    BeforeValidator(_parse_hosts),
    WithJsonSchema({"type": "array", "takes": "hosts, or domains with a leading dot, separated by commas; no paths"}),
]
"""A setting: which hosts a guarded client may visit."""
