"""What uvicorn's HTTP protocol does not do: limits on a request's head, and on the time that it takes to arrive.

The parser keeps whatever it is sent: without a limit one connection can fill the memory with headers, and without a
deadline thousands can be held open by a byte now and then. Errors at this level are JSON, as all others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["RequestLimits", "make_protocol"]

_MESSAGES = {
    400: "Invalid HTTP request.",
    408: "Request did not arrive in time.",
    431: "Request line or headers are too large.",
}
_APP_ANSWERS_WITHIN_S = 5.0  # the app has the same deadline for the body, and the better answer


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a request may be like on the wire."""

    head_bytes: int = 64 * 1024
    headers: int = 200
    head_timeout: timedelta = timedelta(seconds=10)
    body_timeout: timedelta = timedelta(seconds=60)


def make_protocol(limits: RequestLimits) -> type[asyncio.Protocol]:
    """The protocol for `uvicorn.Config(http=…)`, with these limits."""

    class Guarded(_GuardedProtocol):
        pass

    Guarded.limits = limits
    return Guarded


class _TooLarge(Exception):
    """Ends the parser's work."""


class _GuardedProtocol(HttpToolsProtocol):
    limits = RequestLimits()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._head_bytes = 0
        self._refusal = 400

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # as uvicorn has it
        self._set_deadline(self.limits.head_timeout.total_seconds())

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # what still comes after a refusal
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # The parser hands a header on only when it is whole, so one that never ends shows only here.
        if self._is_in_head and self._head_bytes > self.limits.head_bytes and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._set_deadline(self.limits.head_timeout.total_seconds())

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.head_bytes or len(self.headers) > self.limits.headers:
            self._refusal = 431
            raise _TooLarge
        self._is_in_head = False
        self._set_deadline(self.limits.body_timeout.total_seconds() + _APP_ANSWERS_WITHIN_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._clear_deadline()
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as what it is without its upgrade, and anybody can send one."""

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when the parser has given up."""
        self._refuse(self._refusal)

    def _refuse(self, status: int) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_make_answer(status))
        self._clear_deadline()
        self.transport.close()

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408)

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _make_answer(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase
    body = orjson.dumps({"error": phrase, "message": _MESSAGES[status]})
    head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + body
