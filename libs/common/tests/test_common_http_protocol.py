"""What a connection may not do: fill the memory with headers, or be held open by a byte now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from eai_common.http import bind_socket, serve
from eai_common.http.protocol import RequestLimits
from eai_common.testing import pass_time

pytestmark = pytest.mark.virtual_time

LIMITS = RequestLimits(
    head_bytes=2000, headers=20, head_timeout=timedelta(seconds=0.4), body_timeout=timedelta(seconds=0.4)
)


@dataclass
class Server:
    """A running server and what it was sent."""

    port: int

    async def exchange(self, *pieces: bytes, pause_s: float = 0) -> bytes:
        """All that it answers until it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(20):
                for piece in pieces:
                    writer.write(piece)
                    await pass_time(timedelta(seconds=pause_s))
                return await reader.read()
        except ConnectionError:
            return b"reset"
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture()
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr("eai_common.http.protocol._APP_ANSWERS_WITHIN_S", 0.0)

    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body() or b"empty")

    app, stop = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), asyncio.Event()
    with contextlib.closing(bind_socket("127.0.0.1", 0)) as listener:
        listener.listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(app, listener, stop, grace_s=1, limits=LIMITS))
            yield Server(listener.getsockname()[1])
            stop.set()


def status(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"application/json" in head:
        assert orjson.loads(body).keys() == {"error", "message"}
    return int(answer[9:12])


def get(headers: bytes = b"Connection: close\r\n") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"


async def test_an_ordinary_request_passes(server: Server) -> None:
    assert status(await server.exchange(get())) == 200


async def test_a_request_in_small_pieces_passes_when_it_comes_in_time(server: Server) -> None:
    whole = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd"
    answer = await server.exchange(*(whole[at : at + 10] for at in range(0, len(whole), 10)), pause_s=0.01)
    assert answer.endswith(b"abcd")


async def test_a_connection_can_be_used_again_and_again(server: Server) -> None:
    answer = await server.exchange(get(b"A: %s\r\n" % (b"b" * 900)) * 9 + get())
    assert answer.count(b"200 OK") == 10


@pytest.mark.parametrize(
    "head",
    [
        get(b"A: " + b"b" * 3000 + b"\r\n"),
        get(b"A: b\r\n" * 30),
        get(b"".join(b"A%d: %s\r\n" % (number, b"b" * 200) for number in range(15))),
        b"GET /?" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 3000,
        b"GET /" + b"a" * 3000,
    ],
    ids=["one long", "many", "long in all", "long target", "a header without an end", "a target without an end"],
)
async def test_a_head_that_is_too_large_is_refused(server: Server, head: bytes) -> None:
    assert status(await server.exchange(head)) == 431


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA b\r\n\r\n"])
async def test_what_is_no_http_is_refused_as_json(server: Server, junk: bytes) -> None:
    assert status(await server.exchange(junk)) == 400


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(server: Server, start: bytes) -> None:
    assert status(await server.exchange(start)) == 408


async def test_a_byte_now_and_then_does_not_hold_a_connection(server: Server) -> None:
    answer = await server.exchange(b"GET / HTTP/1.1\r\nA: ", *[b"b"] * 12, pause_s=0.1)
    assert answer == b"reset" or status(answer) == 408


async def test_a_body_that_does_not_come_is_not_waited_for(server: Server) -> None:
    answer = await server.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    assert status(answer) == 408


async def test_a_websocket_is_not_opened(server: Server) -> None:
    upgrade = (
        b"Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
    )
    answer = await server.exchange(get(upgrade))
    assert b" 101 " not in answer
