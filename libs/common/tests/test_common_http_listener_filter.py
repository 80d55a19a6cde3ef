"""A server that stops answers every connection that it let be made."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from eai_common.http.server import bind_socket, serve
from eai_common.testing import eventually

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Callers:
    """Threads that connect again and again until nobody listens; `broken` counts connections without an answer."""

    def __init__(self, port: int, count: int) -> None:
        self.answered = 0
        self.broken = 0
        self._port = port
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=0.5)
            except OSError:  # refused, or dropped
                return
            with connection:
                self._ask(connection)

    def _ask(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        try:
            connection.sendall(REQUEST)
            is_answered = connection.recv(12) == b"HTTP/1.1 200"
        except OSError:
            is_answered = False
        with self._lock:
            self.answered += is_answered
            self.broken += not is_answered


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can drop what would open a connection")
async def test_a_server_that_stops_under_load_breaks_no_connection_that_was_made() -> None:
    answered = broken = 0
    for _ in range(3):
        listener, stop = bind_socket("127.0.0.1", 0), asyncio.Event()
        listener.listen(1024)
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(hello, listener, stop, grace_s=5))
            callers = Callers(listener.getsockname()[1], count=8)
            await eventually(lambda: callers.answered > 50)  # noqa: B023  # awaited here
            stop.set()
        await asyncio.to_thread(callers.join)
        answered, broken = answered + callers.answered, broken + callers.broken
    assert answered > 150
    assert broken == 0
