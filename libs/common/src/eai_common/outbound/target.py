"""A URL that is parsed once. What is checked is what is connected to, so no two parsers can disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from eai_common.outbound.addresses import parse_address
from eai_common.outbound.errors import OutboundRefused
from eai_common.outbound.policy import OutboundPolicy

__all__ = ["Target"]

_MAX_URL_CHARACTERS = 4096
# Control characters and blanks smuggle headers, a backslash is a slash to some parsers and not to others.
_TREACHEROUS = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")  # no percent signs: parsers disagree on what they mean in a host
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes."""

    scheme: str
    host: str  # lower-case ASCII, without brackets or a final dot
    port: int
    path: bytes  # with the query, percent-encoded

    @classmethod
    def parse(cls, url: str, policy: OutboundPolicy) -> Target:
        """Parse a URL that the policy allows, as far as that shows before its name is resolved.

        Raises OutboundRefused.
        """
        parsed = _parse_url(url)
        target = cls(
            scheme=parsed.scheme,
            host=parsed.raw_host.decode("ascii").lower().removesuffix("."),
            port=_DEFAULT_PORTS.get(parsed.scheme, 0) if parsed.port is None else parsed.port,
            path=parsed.raw_path,
        )
        target._check(policy)
        return target

    def check_literal_address(self, policy: OutboundPolicy) -> None:
        """Refuse a host that is itself an address which the policy forbids. Raises OutboundRefused.

        For an early answer only: a name may still resolve to anything, which the client checks when it connects.
        """
        address = parse_address(self.host)
        if address is not None and not policy.allows_address(address, self.port):
            raise OutboundRefused(f"{self.host} is no public address")

    def follow(self, location: str, policy: OutboundPolicy) -> Target:
        """Return the target of a redirect. Raises OutboundRefused, also if it leaves TLS."""
        next_target = Target.parse(_join_urls(self.url, location), policy)
        if self.scheme == "https" and next_target.scheme == "http":
            raise OutboundRefused(f"{self.host} redirects from https to http")
        return next_target

    @property
    def url(self) -> str:
        """The whole URL; not for logs, because a query string may hold a signature."""
        return f"{self.scheme}://{self.authority}{self.path.decode('ascii')}"

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def _check(self, policy: OutboundPolicy) -> None:
        if self.scheme not in _DEFAULT_PORTS:
            raise OutboundRefused(f"expected an http or https URL, got the scheme {self.scheme!r}")
        if self.scheme == "http" and not policy.allow_http:
            raise OutboundRefused("expected an https URL, got http")
        if not self.host:
            raise OutboundRefused("the URL has no host")
        if not _HOST.fullmatch(self.host) or self.port not in range(1, 65536):
            raise OutboundRefused("the URL's host or port cannot be read")
        if not policy.allows_host(self.host):
            raise OutboundRefused(f"{self.host} is not among the allowed hosts")


def _parse_url(url: str) -> httpx.URL:
    if len(url) > _MAX_URL_CHARACTERS:
        raise OutboundRefused(f"the URL has {len(url)} characters, {_MAX_URL_CHARACTERS} at most are taken")
    if _TREACHEROUS.search(url):
        raise OutboundRefused("the URL holds a blank, a control character or a backslash")
    if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        raise OutboundRefused("the URL holds a user name or a password")
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise OutboundRefused("not a URL that can be read") from error


def _join_urls(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise OutboundRefused("the redirect is not a URL that can be read") from error
