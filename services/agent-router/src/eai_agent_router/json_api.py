"""JSON over HTTP with a provider: one deadline, the failure table, and nothing of a body in any error."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Literal, Protocol

import httpx
import orjson
from pydantic import BaseModel, Field, JsonValue, ValidationError

from eai_agent_router.errors import AgentBadResponse, AgentConnectionLost, AgentTimeout, AgentUnavailable
from eai_agent_router.failures import CANONICAL_CODES, Failure, make_error
from eai_common.clock import Clock, Deadline
from eai_common.guards import bound_pause, deadline_scope, parse_retry_after

__all__ = ["Authorization", "JsonApi", "StaticToken", "open_http", "parse_json", "read_failure"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Authorization(Protocol):
    """How a provider knows us."""

    async def headers(self) -> Mapping[str, str]:
        """Return the headers to send. Raises AgentUnauthorized or AgentUnavailable if they cannot be had."""


class StaticToken:
    """A bearer token that does not change; without one, no header is sent."""

    def __init__(self, token: str = "") -> None:
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def headers(self) -> Mapping[str, str]:
        return self._headers


@asynccontextmanager
async def open_http() -> AsyncIterator[httpx.AsyncClient]:
    """Open a client for one provider.

    It has no timeout of its own (the deadline is one for the whole call), follows no redirect (a token must not travel)
    and has no limit of connections (the prefetch count is the limit). All connections are kept: a new one costs a TLS
    handshake.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(verify=_tls(), timeout=None, limits=limits, follow_redirects=False) as client:
        yield client


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificate authorities takes 20 ms of CPU each time."""
    return httpx.create_ssl_context()


class JsonApi:
    """One provider's API below one base address."""

    def __init__(
        self,
        provider: str,
        client: httpx.AsyncClient,
        base_url: str,
        authorization: Authorization,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._authorization = authorization
        self._clock = clock

    async def post(self, path: str, body: Mapping[str, JsonValue], *, message_id: str, deadline: Deadline) -> JsonValue:
        """Return the parsed answer to a POST. Raises the errors of the port, by the failure table.

        `message_id` goes along in a header, so that the provider's log and ours can be compared.
        """
        headers = {"content-type": "application/json", "x-message-id": message_id}
        return await self._call("POST", path, orjson.dumps(body), headers, deadline)

    async def get(self, path: str, *, deadline: Deadline) -> JsonValue:
        """Return the parsed answer to a GET. Raises the errors of the port, by the failure table."""
        return await self._call("GET", path, None, {}, deadline)

    async def _call(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], deadline: Deadline
    ) -> JsonValue:
        async with deadline_scope(deadline, self._provider, AgentTimeout):
            known = {**headers, **await self._authorization.headers()}
            try:
                response = await self._client.request(method, f"{self._base_url}{path}", content=content, headers=known)
            except _NEVER_SENT as error:
                raise AgentUnavailable(f"{self._provider} is out of reach ({type(error).__name__})") from error
            except httpx.TransportError as error:
                raise AgentConnectionLost(f"{self._provider} is out of reach ({type(error).__name__})") from error
            except httpx.DecodingError as error:
                raise AgentBadResponse(f"{self._provider} answered in a broken encoding") from error
        if not response.is_success:
            raise make_error(read_failure(response, self._provider, now=self._clock.now()))
        return parse_json(response.content, self._provider)


def parse_json(body: bytes, provider: str) -> JsonValue:
    """Return the JSON in a body; a byte-order mark in front is allowed. Raises AgentBadResponse."""
    try:
        value: JsonValue = orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise AgentBadResponse(f"{provider} answered {len(body)} bytes that are not JSON", answer=body) from error
    return value


class _Detail(BaseModel):
    """One of Google's error details; only RetryInfo has a delay (source: google/rpc/error_details.proto)."""

    retry_delay: str = Field("", alias="retryDelay", pattern=r"^$|^[0-9]+(\.[0-9]+)?s$")


class ErrorBody(BaseModel):
    """An error object: Google has a number in `code` and a name in `status`, OpenAI a name in `code`."""

    code: int | str | None = None
    status: str | None = None
    message: str | None = None
    details: list[JsonValue] = Field(default_factory=list)

    @property
    def name(self) -> str | None:
        """The error's name, if it is one: what goes into texts must not be free text."""
        canonical = CANONICAL_CODES.get(self.code) if isinstance(self.code, int) else self.code
        name = self.status or canonical
        return name if name is not None and _CODE.fullmatch(name) else None

    @property
    def retry_delay(self) -> timedelta | None:
        for detail in self.details:
            try:
                delay = _Detail.model_validate(detail).retry_delay
            except ValidationError:
                continue
            if delay:
                return bound_pause(float(delay[:-1]))
        return None


class _Envelope(BaseModel):
    error: ErrorBody


class _Plain(BaseModel):
    """FastAPI's own errors: the EAI Agent Service's and Letta's. A list repeats the request, so it is not read."""

    detail: str


class _Bare(BaseModel):
    """An error without an envelope: older vLLM."""

    object: Literal["error"]
    message: str


def read_failure(response: httpx.Response, provider: str, *, now: datetime) -> Failure:
    """Return what a response other than 2xx says."""
    body = _read_error(response.content.removeprefix(BYTE_ORDER_MARK))
    pause = parse_retry_after(response.headers.get("retry-after"), now=now)
    return Failure(
        provider=provider,
        status=response.status_code,
        code=body.name,
        message=body.message or "",
        retry_after=body.retry_delay if pause is None else pause,
    )


def _read_error(content: bytes) -> ErrorBody:
    """The error in a body; an empty one when it has another shape, and the status is left to judge by."""
    try:
        return _Envelope.model_validate_json(content).error
    except ValidationError:
        pass
    try:
        return ErrorBody(message=_Plain.model_validate_json(content).detail)
    except ValidationError:
        pass
    try:
        return ErrorBody(message=_Bare.model_validate_json(content).message)
    except ValidationError:
        return ErrorBody()
