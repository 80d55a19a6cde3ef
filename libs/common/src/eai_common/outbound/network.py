"""Opens sockets: a name is resolved once, every address is checked, and a checked one is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

from eai_common.outbound.addresses import IPAddress, parse_address
from eai_common.outbound.errors import OutboundRefused, OutboundUnknownHost, OutboundUnreachable
from eai_common.outbound.policy import OutboundPolicy

__all__ = ["GuardedBackend", "Resolver", "resolve_by_system"]

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns every address of a host, as text. Raises OutboundUnknownHost or OutboundUnreachable."""

_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def resolve_by_system(host: str) -> list[str]:
    """Every address that the machine's own resolver knows; it also reads `0x7f.1`, `017700000001` and the like.

    Raises OutboundUnknownHost, OutboundUnreachable, or OutboundRefused if the host is not a name.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NO_SUCH_HOST:
            raise OutboundUnknownHost(f"there is no host {host}") from error
        raise OutboundUnreachable(f"the name {host} could not be resolved") from error
    except UnicodeError as error:  # a label that is empty or too long
        raise OutboundRefused("the URL's host is not a name") from error
    return [str(sockaddr[0]) for *_, sockaddr in found]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections to addresses that the policy allows. TLS above it still verifies the name."""

    def __init__(self, policy: OutboundPolicy, resolve: Resolver, inner: httpcore.AsyncNetworkBackend) -> None:
        self._policy = policy
        self._resolve = resolve
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers. Raises OutboundRefused if any is not allowed."""
        addresses = await self._resolve_allowed(host, port)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raises OutboundRefused: no URL leads to a socket of this machine."""
        raise OutboundRefused("a socket of this machine is no place for a caller's URL")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    async def _resolve_allowed(self, host: str, port: int) -> list[IPAddress]:
        literal = parse_address(host)
        answers = [str(literal)] if literal else await self._resolve(host)
        addresses = list(dict.fromkeys(map(parse_address, answers)))
        if not addresses:
            raise OutboundUnknownHost(f"{host} has no address")
        # All of them, not only the one to be used: a name that answers inside at all was made to.
        return [self._require_allowed(address, host, port) for address in addresses]

    def _require_allowed(self, address: IPAddress | None, host: str, port: int) -> IPAddress:
        if address is None or not self._policy.allows_address(address, port):
            raise OutboundRefused(f"{host} port {port} is not on the public internet, or not a port that may be used")
        return address
