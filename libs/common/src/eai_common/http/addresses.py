"""The address that a request comes from, seen through our own proxies, and whether it may call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.requests import Request

from eai_common.outbound.addresses import IPAddress, IPNetwork

__all__ = ["find_client_address", "is_in", "name_subscriber"]


def find_client_address(request: Request, trusted: Sequence[IPNetwork]) -> IPAddress | None:
    """The nearest address that is not a trusted proxy's; None when the server does not know one (a Unix socket).

    X-Forwarded-For is read from the right, because each proxy adds what it saw at the end: what stands further left was
    said by the client, and could be anything.
    """
    address = _parse(request.client.host) if request.client is not None else None
    hops = [hop for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    while address is not None and is_in(address, trusted) and hops:
        if (nearer := _parse(hops.pop())) is None:
            break
        address = nearer
    return address


def is_in(address: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    """Whether one of the networks holds the address."""
    return any(address in network for network in networks)


def name_subscriber(address: IPAddress | None) -> str:
    """What one subscriber's requests have in common: an IPv4 address, or the /64 that an IPv6 host picks one from."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address) if address is not None else "local"


@lru_cache(4096)
def _parse(text: str) -> IPAddress | None:
    """An address with or without a port; an IPv4 one inside an IPv6 one is taken out."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
