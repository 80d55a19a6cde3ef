"""GET and POST for URLs that a caller chose, under one policy and one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import httpcore

from eai_common.clock import Clock, Deadline, SystemClock
from eai_common.guards import deadline_scope, parse_retry_after
from eai_common.outbound.body import read_at_most, read_headers, read_whole
from eai_common.outbound.errors import (
    OutboundFailed,
    OutboundRefused,
    OutboundRejected,
    OutboundTimeout,
    OutboundUnreachable,
)
from eai_common.outbound.network import GuardedBackend, Resolver, resolve_by_system
from eai_common.outbound.policy import OutboundPolicy
from eai_common.outbound.target import Target

__all__ = ["Answered", "Fetched", "GuardedClient"]

_REDIRECTS = {301, 302, 303, 307, 308}
_MAY_PASS = {408, 425, 429}  # RFC 9110 and 8470, beside every 5xx
_MOST_OF_AN_ANSWER = 64 * 1024
_USER_AGENT = "eai-agent-gateway"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole body."""

    body: bytes
    content_type: str  # as the other side claims, "" if it claims nothing
    final_url: str  # after redirects


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a POST. `body` is cut at 64 KiB."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class GuardedClient:
    """Reaches what the policy allows. It keeps no cookies, ignores proxy variables and asks for no compression."""

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        resolve: Resolver = resolve_by_system,
        network: httpcore.AsyncNetworkBackend | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock or SystemClock()
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=policy.max_connections,
            max_keepalive_connections=policy.max_connections // 5,
            keepalive_expiry=5.0,
            network_backend=GuardedBackend(policy, resolve, network or httpcore.AnyIOBackend()),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def fetch(self, url: str, *, deadline: Deadline, max_bytes: int | None = None) -> Fetched:
        """Return the body behind `url`. Redirects are followed, each checked like the first.

        Raises OutboundRefused, OutboundUnknownHost, OutboundTooLarge or OutboundRejected (all permanent), or
        OutboundFailed, OutboundTimeout or OutboundUnreachable (all retriable).
        """
        target = Target.parse(url, self._policy)
        limit = min(self._policy.max_bytes, max_bytes or self._policy.max_bytes)
        async with deadline_scope(deadline, target.host, OutboundTimeout):
            for _ in range(self._policy.max_redirects + 1):
                async with self._exchange(_build_request("GET", target, self._policy)) as response:
                    if response.status not in _REDIRECTS:
                        return await _read_fetched(response, target, limit, now=self._clock.now())
                    location = read_headers(response).get("location", "")
                target = target.follow(location, self._policy)
        raise OutboundRefused(f"more than {self._policy.max_redirects} redirects")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, deadline: Deadline) -> Answered:
        """Send `body`; any status is an answer, and a redirect is not followed.

        Raises OutboundRefused or OutboundUnknownHost (permanent), OutboundTimeout or OutboundUnreachable (retriable).
        """
        target = Target.parse(url, self._policy)
        request = _build_request("POST", target, self._policy, headers, body)
        async with deadline_scope(deadline, target.host, OutboundTimeout), self._exchange(request) as response:
            answer = await read_at_most(response, _MOST_OF_AN_ANSWER)
            return Answered(response.status, read_headers(response), answer)

    @asynccontextmanager
    async def _exchange(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        """Send the request; the answer's body is still to be read. Foreign errors become ours here and nowhere else."""
        host = request.url.host.decode("ascii")
        try:
            async with asyncio.timeout(self._policy.first_byte_limit.total_seconds()):
                response = await self._pool.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise OutboundTimeout(f"{host} took too long to answer") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise OutboundUnreachable(f"{host}: {type(error).__name__}") from error


def _build_request(
    method: str,
    target: Target,
    policy: OutboundPolicy,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> httpcore.Request:
    ours = {"Host": target.authority, "User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    if body is not None:
        ours["Content-Length"] = str(len(body))
    stall_s = policy.stall_limit.total_seconds()
    return httpcore.Request(
        method,
        httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
        headers=[*ours.items(), *_require_no_line_breaks(headers or {}).items()],
        content=body,
        extensions={"timeout": {"connect": policy.connect_limit.total_seconds(), "read": stall_s, "write": stall_s}},
    )


def _require_no_line_breaks(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if any(sign in name + value for sign in "\r\n\0"):
            raise OutboundRefused(f"the header {name!r} holds a line break")
    return headers


async def _read_fetched(response: httpcore.Response, target: Target, limit: int, *, now: datetime) -> Fetched:
    headers = read_headers(response)
    if response.status in _MAY_PASS or response.status >= 500:
        pause = parse_retry_after(headers.get("retry-after"), now=now)
        raise OutboundFailed(f"{target.host} answered {response.status}", status=response.status, retry_after=pause)
    if response.status != 200:
        raise OutboundRejected(f"{target.host} answered {response.status}, expected 200", status=response.status)
    return Fetched(await read_whole(response, limit), headers.get("content-type", ""), target.url)
