"""Every way that we know to make a guarded client knock on an inside door, and the proof that the guard stops it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.clock import Deadline
from eai_common.outbound import GuardedClient, HostRule, OutboundPolicy, OutboundRefused, OutboundUnreachable
from eai_common.outbound.addresses import is_public
from eai_common.outbound.network import resolve_by_system

GUARDED = OutboundPolicy(allow_http=True)
UNGUARDED = OutboundPolicy(allow_http=True, allowed_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
PUBLIC = "93.184.215.14"

NAMES = {
    "inside.example.org": ["10.0.0.5"],
    "metadata.example.org": ["169.254.169.254"],
    "loop.example.org": ["127.0.0.1"],
    "six.example.org": ["::1"],
    "mapped.example.org": ["::ffff:10.0.0.5"],
    "nat64.example.org": ["64:ff9b::a00:5"],
    "last-is-inside.example.org": [PUBLIC, "192.168.1.1"],
    "first-is-inside.example.org": ["192.168.1.1", PUBLIC],
    "scoped.example.org": ["fe80::1%lo"],
    "127.0.0.1.nip.example.org": ["127.0.0.1"],
    "xn--bcher-kva.example.org": ["10.1.1.1"],
    "public.example.org": [PUBLIC],
}

# What is in the URL, and the address behind it that must not be reached.
INSIDE = {
    "http://127.0.0.1/": "127.0.0.1",
    "http://127.0.0.2/": "127.0.0.2",
    "http://127.255.255.254/": "127.255.255.254",
    "http://localhost/": "127.0.0.1",
    "http://localhost./": "127.0.0.1",
    "http://LOCALHOST/": "127.0.0.1",
    "http://127.1/": "127.0.0.1",
    "http://127.0.1/": "127.0.0.1",
    "http://2130706433/": "127.0.0.1",
    "http://017700000001/": "127.0.0.1",
    "http://0x7f000001/": "127.0.0.1",
    "http://0X7F000001/": "127.0.0.1",
    "http://0x7f.0.0.1/": "127.0.0.1",
    "http://0x7f.1/": "127.0.0.1",
    "http://0177.1/": "127.0.0.1",
    "http://127.0x0.0.01/": "127.0.0.1",
    "http://0/": "0.0.0.0",
    "http://0.0.0.0/": "0.0.0.0",
    "http://0x0/": "0.0.0.0",
    "http://0.1/": "0.0.0.1",
    "http://10.0.0.1/": "10.0.0.1",
    "http://10.1/": "10.0.0.1",
    "http://167772161/": "10.0.0.1",
    "http://172.16.0.1/": "172.16.0.1",
    "http://172.31.255.255/": "172.31.255.255",
    "http://192.168.0.1/": "192.168.0.1",
    "http://0xc0a80001/": "192.168.0.1",
    "http://169.254.169.254/latest/meta-data/": "169.254.169.254",
    "http://2852039166/": "169.254.169.254",
    "http://0xa9fea9fe/": "169.254.169.254",
    "http://169.16689662/": "169.254.169.254",
    "http://0251.0376.0251.254./": "169.254.169.254",
    "http://100.64.0.1/": "100.64.0.1",
    "http://100.100.100.200/": "100.100.100.200",
    "http://168.63.129.16/": "168.63.129.16",
    "http://192.0.0.192/": "192.0.0.192",
    "http://192.0.2.1/": "192.0.2.1",
    "http://192.88.99.1/": "192.88.99.1",
    "http://198.18.0.1/": "198.18.0.1",
    "http://198.51.100.1/": "198.51.100.1",
    "http://203.0.113.1/": "203.0.113.1",
    "http://224.0.0.1/": "224.0.0.1",
    "http://239.255.255.250/": "239.255.255.250",
    "http://240.0.0.1/": "240.0.0.1",
    "http://255.255.255.255/": "255.255.255.255",
    "http://[::1]/": "::1",
    "http://[0:0:0:0:0:0:0:1]/": "::1",
    "http://[::]/": "::",
    "http://[::ffff:127.0.0.1]/": "::ffff:127.0.0.1",
    "http://[::ffff:7f00:1]/": "::ffff:127.0.0.1",
    "http://[::ffff:a9fe:a9fe]/": "::ffff:169.254.169.254",
    "http://[::ffff:93.184.215.14]/": "::ffff:93.184.215.14",
    "http://[::127.0.0.1]/": "::7f00:1",
    "http://[::ffff:0:127.0.0.1]/": "::ffff:0:7f00:1",
    "http://[64:ff9b::7f00:1]/": "64:ff9b::7f00:1",
    "http://[64:ff9b::169.254.169.254]/": "64:ff9b::a9fe:a9fe",
    "http://[64:ff9b:1::a00:1]/": "64:ff9b:1::a00:1",
    "http://[2002:7f00:1::]/": "2002:7f00:1::",
    "http://[2002:a9fe:a9fe::1]/": "2002:a9fe:a9fe::1",
    "http://[2001:0:7f00:1::]/": "2001:0:7f00:1::",
    "http://[2001:db8::1]/": "2001:db8::1",
    "http://[3fff::1]/": "3fff::1",
    "http://[5f00::1]/": "5f00::1",
    "http://[100::1]/": "100::1",
    "http://[fc00::1]/": "fc00::1",
    "http://[fd00:ec2::254]/": "fd00:ec2::254",
    "http://[fe80::1]/": "fe80::1",
    "http://[fec0::1]/": "fec0::1",
    "http://[ff02::1]/": "ff02::1",
    "http://inside.example.org/": "10.0.0.5",
    "http://INSIDE.example.org./": "10.0.0.5",
    "http://metadata.example.org/": "169.254.169.254",
    "http://loop.example.org/": "127.0.0.1",
    "http://six.example.org/": "::1",
    "http://mapped.example.org/": "::ffff:10.0.0.5",
    "http://nat64.example.org/": "64:ff9b::a00:5",
    "http://last-is-inside.example.org/": "192.168.1.1",
    "http://first-is-inside.example.org/": "192.168.1.1",
    "http://scoped.example.org/": "fe80::1%lo",
    "http://127.0.0.1.nip.example.org/": "127.0.0.1",
    "http://bücher.example.org/": "10.1.1.1",
    "http://127。0。0。1/": "127.0.0.1",
}

# Refused before anything is resolved, and the words of the reason, so that the right guard is what refuses.
TREACHEROUS = {
    "file:///etc/passwd": "scheme",
    "gopher://public.example.org/_": "scheme",
    "ftp://public.example.org/a.mp3": "scheme",
    "dict://public.example.org:11211/stats": "scheme",
    "data:audio/ogg;base64,T2dn": "scheme",
    "jar:http://public.example.org!/": "scheme",
    "unix:///var/run/docker.sock": "scheme",
    "//public.example.org/a": "scheme",
    "public.example.org/a": "scheme",
    "": "scheme",
    "http://user@public.example.org/": "user name",
    "http://user:secret@public.example.org/": "user name",
    "http://public.example.org@127.0.0.1/": "user name",
    "http://@127.0.0.1/": "user name",
    "http://127.0.0.1%2f@public.example.org/": "user name",
    "http://public.example.org/\r\nX-Injected: yes": "control character",
    "http://public.example.org/%0d%0a\r\n": "control character",
    "http://public.example.org\t/": "control character",
    "http://public.example.org /": "blank",
    " http://public.example.org/": "blank",
    "http://public.example.org\\@127.0.0.1/": "backslash",
    "http:\\\\127.0.0.1\\": "backslash",
    "http://public.example.org\u2028/": "blank",
    "http://public.example.org\x00.127.0.0.1/": "control character",
    "http://１２７.0.0.1/": "read",
    "http://ⓛocalhost/": "read",
    "http://%6cocalhost/": "read",
    "http://127.0.0.1%00.example.org/": "read",
    "http://public.example.org:0/": "read",
    "http://0177.0.0.1/": "read",
    "http://0x7f.0x0.0x0.0x1:99999/": "read",
    "http://[::1/": "read",
    "http://[fe80::1%25lo]/": "read",
    "http://[::ffff:127.0.0.1.]/": "read",
    "http:///a.mp3": "no host",
    "http://./": "no host",
    "http://" + "a" * 5000: "characters",
}


class Untouched(httpcore.AsyncNetworkBackend):
    """A network on which nobody answers, and that remembers who was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        self.called.append(host)
        raise httpcore.ConnectError("nobody here")


async def resolve(host: str) -> Sequence[str]:
    return NAMES[host] if host in NAMES else await resolve_by_system(host)


def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=10))


async def called_by(url: str, policy: OutboundPolicy) -> list[str]:
    network = Untouched()
    async with GuardedClient(policy, resolve=resolve, network=network) as client:
        with pytest.raises((OutboundRefused, OutboundUnreachable)) as caught:
            await client.fetch(url, deadline=soon())
    is_refused = isinstance(caught.value, OutboundRefused)
    assert is_refused is not bool(network.called), "refused after a connection, or let go without one"
    return network.called


@pytest.mark.parametrize("url", INSIDE)
async def test_a_url_that_leads_inside_is_refused_before_anything_is_connected(url: str) -> None:
    assert await called_by(url, GUARDED) == []


@pytest.mark.parametrize(("url", "address"), INSIDE.items())
async def test_the_same_url_reaches_the_inside_when_the_guard_is_taken_away(url: str, address: str) -> None:
    assert ip_address(address) in map(ip_address, await called_by(url, UNGUARDED))


@pytest.mark.parametrize(("url", "reason"), TREACHEROUS.items())
async def test_a_url_made_to_be_misread_is_refused_for_what_is_wrong_with_it(url: str, reason: str) -> None:
    async with GuardedClient(UNGUARDED, resolve=resolve, network=Untouched()) as client:
        with pytest.raises(OutboundRefused, match=reason):
            await client.fetch(url, deadline=soon())


def test_the_tables_hold_at_least_sixty_spellings() -> None:
    assert len(INSIDE) + len(TREACHEROUS) >= 60


async def test_a_public_address_is_connected_to() -> None:
    assert await called_by("http://public.example.org/", GUARDED) == [PUBLIC]


@pytest.mark.parametrize(
    "url", ["http://public.example.org:22/", "http://public.example.org:6379/", "https://93.184.215.14:25/"]
)
async def test_a_port_that_is_not_for_the_web_is_refused_on_public_addresses_too(url: str) -> None:
    assert await called_by(url, GUARDED) == []


async def test_plain_http_is_refused_where_the_policy_wants_tls() -> None:
    assert await called_by("http://public.example.org/", OutboundPolicy()) == []


async def test_a_name_is_resolved_once_so_that_a_changed_answer_is_never_asked_for() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    network = Untouched()

    async def rebinding(_: str) -> Sequence[str]:
        return next(answers)

    async with GuardedClient(GUARDED, resolve=rebinding, network=network) as client:
        with pytest.raises(OutboundUnreachable):
            await client.fetch("http://rebind.example.org/", deadline=soon())
    assert (network.called, next(answers)) == ([PUBLIC], ["127.0.0.1"])


async def test_a_name_that_changes_its_answer_is_refused_at_the_next_connection() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    network = Untouched()

    async def rebinding(_: str) -> Sequence[str]:
        return next(answers)

    async with GuardedClient(GUARDED, resolve=rebinding, network=network) as client:
        with pytest.raises(OutboundUnreachable):
            await client.fetch("http://rebind.example.org/", deadline=soon())
        with pytest.raises(OutboundRefused):
            await client.fetch("http://rebind.example.org/", deadline=soon())
    assert network.called == [PUBLIC]


async def test_tls_goes_to_the_checked_address_and_verifies_the_name() -> None:
    class Handshake(httpcore.AsyncNetworkStream):
        verified: list[str | None]

        async def start_tls(
            self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
        ) -> httpcore.AsyncNetworkStream:
            self.verified = [server_hostname, "checked" if ssl_context.check_hostname else "unchecked"]
            raise httpcore.ConnectError("enough seen")

        async def aclose(self) -> None: ...

    stream = Handshake()

    class Answers(Untouched):
        async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
            self.called.append(f"{host}:{port}")
            return stream

    network = Answers()
    async with GuardedClient(OutboundPolicy(), resolve=resolve, network=network) as client:
        with pytest.raises(OutboundUnreachable):
            await client.fetch("https://public.example.org/", deadline=soon())
    assert (network.called, stream.verified) == ([f"{PUBLIC}:443"], ["public.example.org", "checked"])


@pytest.mark.parametrize(
    ("rule", "host", "matches"),
    [
        ("media.example.org", "media.example.org", True),
        ("https://media.example.org/", "media.example.org", True),
        ("MEDIA.example.org.", "media.example.org", True),
        ("media.example.org", "a.media.example.org", False),
        ("media.example.org", "media.example.org.evil.example", False),
        ("media.example.org", "evilmedia.example.org", False),
        (".example.org", "example.org", True),
        ("*.example.org", "a.b.example.org", True),
        (".example.org", "badexample.org", False),
        (".example.org", "example.org.evil.example", False),
        ("93.184.215.14", "93.184.215.14", True),
        ("[2606:2800::1]", "2606:2800::1", True),
    ],
)
def test_a_host_rule_matches_whole_labels_only(rule: str, host: str, matches: bool) -> None:
    assert HostRule.parse(rule).matches(host) is matches


@pytest.mark.parametrize(
    "rule", ["", "*", ".", "https://a.example/path", "a b", "a.example:80", "ex*mple.org", "http://"]
)
def test_a_rule_that_is_not_a_host_is_refused_when_it_is_read(rule: str) -> None:
    with pytest.raises(ValueError):
        HostRule.parse(rule)


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/?media.example.org",
        "http://evil.example/media.example.org",
        "http://evil.example#media.example.org",
        "http://media.example.org.evil.example/",
        "http://xmedia.example.org/",
    ],
)
async def test_the_allowlist_is_never_a_substring_search(url: str) -> None:
    policy = OutboundPolicy(allow_http=True, allowed_hosts=(HostRule.parse("media.example.org"),))
    assert await called_by(url, policy) == []


def test_an_exempted_network_opens_nothing_beside_itself() -> None:
    policy = OutboundPolicy(allowed_networks=(ip_network("127.0.0.0/8"),))
    tried: Iterable[str] = ("127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1")
    assert [policy.allows_address(ip_address(one), 8080) for one in tried] == [True, False, False, False]


@given(st.ip_addresses(v=6, network="::ffff:0:0/96") | st.ip_addresses(v=6, network="64:ff9b::/96"))
def test_no_ipv6_address_that_carries_an_ipv4_address_is_public(address: Any) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_nothing_is_public_that_python_itself_calls_private_or_reserved(address: Any) -> None:
    is_inside = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    assert not (is_inside and is_public(address))
