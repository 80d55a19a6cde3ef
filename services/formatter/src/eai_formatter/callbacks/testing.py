"""A callback receiver for tests, on loopback by default: it keeps what it gets and gives the answers that are set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook

from eai_common.testing import pass_time

__all__ = ["Received", "Receiver", "Reply"]


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    headers: Mapping[str, str]  # names in lower case
    body: bytes
    at_s: float  # of the event loop's clock

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload. Raises the library's WebhookVerificationError if it is not signed with `secret`."""
        return Webhook(secret).verify(self.body, dict(self.headers))

    def payload(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `hangs` sends nothing until the receiver stops."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    after: timedelta = timedelta()  # in virtual time
    hangs: bool = False


class Receiver:
    """Answers with `replies` in turn, then with `usually`. Stopped and started again, it keeps its port."""

    def __init__(
        self, *replies: Reply, usually: Reply | None = None, tls: SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.replies = list(replies)
        self.usually = usually or Reply()
        self.received: list[Received] = []
        self.under_way = 0
        self.most_under_way = 0
        self._tls = tls
        self._host = host
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}/callback"

    @property
    def port(self) -> int:
        return self._port

    @property
    def ids(self) -> list[str]:
        return [request.webhook_id for request in self.received]

    async def start(self) -> None:
        """Return once it listens."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on, and break those that are open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(await _request(reader), writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender is gone, or we are
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        reply = self.replies.pop(0) if self.replies else self.usually
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if reply.hangs:
                await asyncio.Event().wait()
            if reply.after:
                await pass_time(reply.after)
        finally:
            self.under_way -= 1
        lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        writer.write(f"HTTP/1.1 {reply.status} .\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


async def _request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(headers, body, asyncio.get_running_loop().time())
