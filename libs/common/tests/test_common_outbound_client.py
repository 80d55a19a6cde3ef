"""The guarded client against real servers on loopback: what it fetches, and where it stops."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network

import pytest

from eai_common.clock import Deadline
from eai_common.outbound import (
    GuardedClient,
    HostRule,
    OutboundFailed,
    OutboundPolicy,
    OutboundRefused,
    OutboundRejected,
    OutboundTimeout,
    OutboundTooLarge,
    OutboundUnknownHost,
    OutboundUnreachable,
    resolve_by_system,
)
from eai_common.testing import eventually, pass_time

LOOPBACK = OutboundPolicy(allow_http=True, allowed_networks=(ip_network("127.0.0.0/8"),), max_bytes=10_000)
HASTY = OutboundPolicy(
    allow_http=True,
    allowed_networks=(ip_network("127.0.0.0/8"),),
    first_byte_limit=timedelta(seconds=0.2),
    stall_limit=timedelta(seconds=0.2),
)
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server that answers each path with raw bytes, or however a function likes; it keeps what it was asked."""

    def __init__(self, pages: dict[str, bytes | Answer]) -> None:
        self.pages = pages
        self.requests: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.requests.append(head)
            page = self.pages[head.split(" ")[1]]
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def site(**pages: bytes | Answer) -> AsyncIterator[Site]:
    made = Site({f"/{name}": page for name, page in pages.items()})
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


def answer(body: bytes = b"", *, status: str = "200 OK", **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n".encode() + body


def soon(seconds: float = 5) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


async def fetch(url: str, policy: OutboundPolicy = LOOPBACK, *, seconds: float = 5) -> bytes:
    async with GuardedClient(policy) as client:
        return (await client.fetch(url, deadline=soon(seconds))).body


async def test_a_body_comes_back_with_its_type_and_where_it_was_in_the_end() -> None:
    async with site(
        old=answer(status="302 Found", Location="/new"), new=answer(b"sound", Content_Type="audio/ogg")
    ) as at:
        async with GuardedClient(LOOPBACK) as client:
            fetched = await client.fetch(f"{at.url}/old", deadline=soon())
        assert (fetched.body, fetched.content_type, fetched.final_url) == (b"sound", "audio/ogg", f"{at.url}/new")


async def test_no_compression_is_asked_for_and_the_host_header_is_the_name() -> None:
    async with site(a=answer(b"x")) as at:
        await fetch(f"{at.url}/a".replace("127.0.0.1", "localhost"))
        head = at.requests[0].lower()
        assert "accept-encoding: identity\r\n" in head
        assert "host: localhost:" in head


async def test_proxy_variables_of_the_environment_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with site(a=answer(b"direct")) as at:
        assert await fetch(f"{at.url}/a") == b"direct"


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "//[::1]/",
        "http://2852039166/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "http://user@127.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "",
    ],
)
async def test_a_redirect_to_where_we_would_not_go_is_refused(location: str) -> None:
    loops_only = OutboundPolicy(allow_http=True, allowed_networks=(ip_network("127.0.0.1/32"),), max_redirects=2)
    async with site(a=answer(status="302 Found", Location=location)) as at:
        with pytest.raises(OutboundRefused):
            await fetch(f"{at.url}/a", loops_only)


async def test_the_allowlist_counts_for_redirects_too() -> None:
    async with site(a=answer(b"inside")) as inner, site(a=answer(status="307 T", Location="")) as outer:
        outer.pages["/a"] = answer(status="307 T", Location=f"{inner.url}/a".replace("127.0.0.1", "localhost"))
        policy = OutboundPolicy(
            allow_http=True,
            allowed_networks=LOOPBACK.allowed_networks,
            allowed_hosts=(HostRule.parse("127.0.0.1"),),
        )
        with pytest.raises(OutboundRefused):
            await fetch(f"{outer.url}/a", policy)
        assert inner.requests == []


async def test_redirects_in_a_circle_end_after_five() -> None:
    async with site(a=answer(status="301 M", Location="/a")) as at:
        with pytest.raises(OutboundRefused, match="5 redirects"):
            await fetch(f"{at.url}/a")
        assert len(at.requests) == 6


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, OutboundRejected),
        (403, OutboundRejected),
        (404, OutboundRejected),
        (410, OutboundRejected),
        (206, OutboundRejected),
        (408, OutboundFailed),
        (425, OutboundFailed),
        (429, OutboundFailed),
        (500, OutboundFailed),
        (502, OutboundFailed),
        (503, OutboundFailed),
        (504, OutboundFailed),
    ],
)
async def test_a_status_is_final_or_may_pass(status: int, error: type[OutboundRejected | OutboundFailed]) -> None:
    async with site(a=answer(status=f"{status} X")) as at:
        with pytest.raises(error, match=f"answered {status}"):
            await fetch(f"{at.url}/a")


@pytest.mark.parametrize(("wish", "granted"), [("7", 7), ("999999", 6 * 3600), ("-1", 0), ("soon", None)])
async def test_the_other_sides_retry_after_is_kept_up_to_six_hours(wish: str, granted: int | None) -> None:
    async with site(a=answer(status="503 Busy", Retry_After=wish)) as at:
        with pytest.raises(OutboundFailed) as caught:
            await fetch(f"{at.url}/a")
    assert caught.value.retry_after == (None if granted is None else timedelta(seconds=granted))


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with site(a=answer(b"x" * 10_000)) as at:
        assert len(await fetch(f"{at.url}/a")) == 10_000


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")
        await writer.drain()


async def without_length(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 20_000)
    await writer.drain()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(answer(b"x" * 10_001), id="announced"),
        pytest.param(answer(b"", Content_Length="99999999999"), id="announced without a body"),
        pytest.param(endless, id="chunked without end"),
        pytest.param(without_length, id="no length"),
        pytest.param(answer(gzip.compress(b"\0" * 5_000_000), Content_Encoding="gzip"), id="gzip bomb"),
        pytest.param(answer(zlib.compress(b"\0" * 5_000_000), Content_Encoding="deflate"), id="deflate bomb"),
    ],
)
async def test_reading_stops_at_the_limit(page: bytes | Answer) -> None:
    async with site(a=page) as at:
        with pytest.raises(OutboundTooLarge):
            await fetch(f"{at.url}/a")


async def test_a_caller_may_ask_for_less_but_not_for_more_than_the_policy() -> None:
    async with site(a=answer(b"x" * 10_001)) as at, GuardedClient(LOOPBACK) as client:
        with pytest.raises(OutboundTooLarge):
            await client.fetch(f"{at.url}/a", deadline=soon(), max_bytes=1_000_000)
        with pytest.raises(OutboundTooLarge):
            await client.fetch(f"{at.url}/a", deadline=soon(), max_bytes=10)


async def test_a_small_body_that_was_packed_unasked_is_unpacked() -> None:
    async with site(a=answer(gzip.compress(b"sound"), Content_Encoding="GZIP")) as at:
        assert await fetch(f"{at.url}/a") == b"sound"


async def test_a_packing_that_we_do_not_know_is_rejected() -> None:
    async with site(a=answer(b"\x0b\x02\x80", Content_Encoding="br")) as at:
        with pytest.raises(OutboundRejected):
            await fetch(f"{at.url}/a")


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def stalled(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    await asyncio.Event().wait()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        writer.write(b"x")
        await writer.drain()
        await pass_time(timedelta(seconds=0.05))


@pytest.mark.virtual_time()
@pytest.mark.parametrize("page", [silent, stalled])
async def test_a_server_that_falls_silent_is_given_up_long_before_the_deadline(page: Answer) -> None:
    async with site(a=page) as at:
        started = asyncio.get_running_loop().time()
        with pytest.raises(OutboundTimeout):
            await fetch(f"{at.url}/a", HASTY, seconds=60)
        assert asyncio.get_running_loop().time() - started < 1


@pytest.mark.virtual_time()
async def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    async with site(a=dripping) as at:
        with pytest.raises(OutboundTimeout):
            await fetch(f"{at.url}/a", HASTY, seconds=0.5)


async def test_a_deadline_that_has_passed_is_a_timeout() -> None:
    async with site(a=silent) as at:
        with pytest.raises(OutboundTimeout):
            await fetch(f"{at.url}/a", seconds=0)


async def cut_short(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def not_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.org ESMTP\r\n")
    await writer.drain()


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("page", [cut_short, not_http, endless_headers])
async def test_an_answer_that_breaks_http_is_a_failure_that_may_pass(page: Answer) -> None:
    async with site(a=page) as at:
        with pytest.raises(OutboundUnreachable):
            await fetch(f"{at.url}/a")


async def test_a_closed_port_is_unreachable() -> None:
    async with site() as at:
        pass
    with pytest.raises(OutboundUnreachable):
        await fetch(f"{at.url}/a")


async def test_the_next_address_is_tried_when_the_first_does_not_answer() -> None:
    async def two(_: str) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with site(a=answer(b"second")) as at, GuardedClient(LOOPBACK, resolve=two) as client:
        url = f"{at.url}/a".replace("127.0.0.1", "two.example.org")
        assert (await client.fetch(url, deadline=soon())).body == b"second"


async def test_a_host_without_addresses_is_unknown() -> None:
    async def nothing(_: str) -> Sequence[str]:
        return []

    async with GuardedClient(LOOPBACK, resolve=nothing) as client:
        with pytest.raises(OutboundUnknownHost):
            await client.fetch("http://nowhere.example.org/", deadline=soon())


async def test_a_call_can_be_cancelled_and_the_client_goes_on_working() -> None:
    async with site(slow=silent, fast=answer(b"x")) as at, GuardedClient(LOOPBACK) as client:
        call = asyncio.create_task(client.fetch(f"{at.url}/slow", deadline=soon()))
        await eventually(lambda: at.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await client.fetch(f"{at.url}/fast", deadline=soon())).body == b"x"


async def test_a_post_sends_its_body_and_headers_and_follows_no_redirect() -> None:
    async with site(hook=answer(b"elsewhere", status="302 Found", Location="/other")) as at:
        async with GuardedClient(LOOPBACK) as client:
            told = await client.post(f"{at.url}/hook", b"{}", {"X-Signature": "v1,abc"}, deadline=soon())
        assert (told.status, told.headers["location"], told.body) == (302, "/other", b"elsewhere")
        assert "x-signature: v1,abc" in at.requests[0].lower()
        assert len(at.requests) == 1


async def test_of_the_answer_to_a_post_no_more_than_64_kib_are_read() -> None:
    async with site(hook=endless) as at, GuardedClient(LOOPBACK) as client:
        told = await client.post(f"{at.url}/hook", b"{}", {}, deadline=soon())
        assert len(told.body) == 64 * 1024


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-Injected: yes"}, {"X-A\r\nX-Injected": "yes"}, {"X-A": "b\nc"}])
async def test_a_header_with_a_line_break_is_refused(headers: dict[str, str]) -> None:
    async with site(hook=answer()) as at, GuardedClient(LOOPBACK) as client:
        with pytest.raises(OutboundRefused):
            await client.post(f"{at.url}/hook", b"{}", headers, deadline=soon())
        assert at.requests == []


async def test_a_post_to_an_inside_address_is_refused() -> None:
    async with GuardedClient(OutboundPolicy(allow_http=True)) as client:
        with pytest.raises(OutboundRefused):
            await client.post("http://127.0.0.1/hook", b"{}", {}, deadline=soon())


async def test_no_error_shows_the_query_that_may_hold_a_signature() -> None:
    async with site() as at:
        pass
    with pytest.raises(OutboundUnreachable) as caught:
        await fetch(f"{at.url}/a?signature=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "not known"), OutboundUnknownHost),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure"), OutboundUnreachable),
        (UnicodeError("label too long"), OutboundRefused),
    ],
)
async def test_a_name_that_cannot_be_resolved_is_final_only_when_there_is_no_such_name(
    failure: Exception, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(error):
        await resolve_by_system("nowhere.example.org")
