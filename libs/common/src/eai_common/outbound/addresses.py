"""Which IP addresses are public. All others may be inside of somebody's network.

Stricter than `ipaddress.is_global`, which passes NAT64 and 6to4 (they carry an IPv4 address that the gateway unwraps)
and changed its mind between Python's patch releases. Source: IANA IPv4 and IPv6 Special-Purpose Address Registries.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["IPAddress", "IPNetwork", "is_public", "parse_address"]

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_IPV4_INSIDE = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for the machine itself
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform endpoint, public by number only
            "169.254.0.0/16",  # link-local, the clouds' metadata servers
            "172.16.0.0/12",
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
# Only 2000::/3 is given out as unicast (RFC 4291), so mapped, NAT64, unique-local, link-local and multicast are out.
_IPV6_UNICAST = IPv6Network("2000::/3")
_IPV6_INSIDE = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: IPAddress) -> bool:
    """Whether the address is on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _IPV4_INSIDE)
    return address in _IPV6_UNICAST and not any(address in network for network in _IPV6_INSIDE)


def parse_address(text: str) -> IPAddress | None:
    """Return the address that the text is, in its canonical form; None for any other text."""
    try:
        return ip_address(text)
    except ValueError:
        return None
