"""Hostile requests over raw sockets: what no client library would send. No 5xx but backpressure, no hang, no growth.

`PYTHONPATH=tests .venv/bin/python -m acceptance.hostile_requests [--requests 100000] [--seed N]` prints one line of
JSON for each service and fails when something was not as it should be. The seed makes the same requests again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
from e2e.deployment import FiveProcesses, five_processes

from eai_common.testing import every

__all__ = ["Hostile", "Report", "attack", "hostile_request", "main"]

_USER = "/api/v1/message/webhook/user"
_HISTORY = "/api/v1/message/webhook/update_history"
_POLL = "/api/v1/message/response"
_PATHS = (_USER, _HISTORY, _POLL, "/api/v1/message/last-activity", "/api/v1/message/debug/task-status", "/health", "/")
_SIDE_BY_SIDE = 40
_HANG_S = 20.0
_WARM_UP = 0.2  # the share of requests after which memory is measured first: caches and pools are full by then


@dataclass(frozen=True, slots=True)
class Hostile:
    """What is sent, in pieces with a pause between them; then perhaps nothing more comes, and the client hangs up."""

    name: str
    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    waits_for_answer: bool = True


@dataclass
class Report:
    """What became of them."""

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)


Kind = Callable[[random.Random], Hostile]


def hostile_request(rng: random.Random) -> Hostile:
    """One of a kind."""
    return rng.choice(_KINDS)(rng)


async def attack(host: str, port: int, *, requests: int, seed: int) -> Report:
    """Send them, some side by side."""
    rng, report = random.Random(seed), Report()
    left = iter([hostile_request(rng) for _ in range(requests)])

    async def client() -> None:
        for hostile in left:
            await _send(host, port, hostile, report)

    await asyncio.gather(*(client() for _ in range(_SIDE_BY_SIDE)))
    return report


async def _send(host: str, port: int, hostile: Hostile, report: Report) -> None:
    report.sent += 1
    try:
        async with asyncio.timeout(_HANG_S):
            answer = await _exchange(host, port, hostile)
    except TimeoutError:
        report.bad.append(f"{hostile.name}: no answer and no end within {_HANG_S:g} s: {hostile.pieces[0][:200]!r}")
        return
    except OSError:  # reset by the server, which is an answer too
        answer = b""
    status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "closed"
    report.statuses[status] += 1
    if status.startswith("5") and status != "503":
        report.bad.append(f"{hostile.name}: {answer[:300]!r} to {b''.join(hostile.pieces)[:500]!r}")


async def _exchange(host: str, port: int, hostile: Hostile) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        pace = every(timedelta(seconds=hostile.pause_s))
        for piece in hostile.pieces:
            await anext(pace)
            writer.write(piece)
            await writer.drain()
        return await reader.read(1 << 16) if hostile.waits_for_answer else b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


# The kinds


def _post(body: bytes, *, path: str = _USER, headers: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = (
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n"
    )
    return head % (path.encode(), size) + headers + b"\r\n" + body


def _get(target: bytes, headers: bytes = b"") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n"


def _webhook(rng: random.Random) -> str:
    return rng.choice((_USER, _HISTORY))


def broken_utf8(rng: random.Random) -> Hostile:
    junk = bytes(rng.randrange(0x80, 0x100) for _ in range(rng.randrange(1, 40)))
    return Hostile("broken UTF-8", (_post(b'{"user_number":"+5521999990000","message":"' + junk + b'"}'),))


def surrogates_and_controls(rng: random.Random) -> Hostile:
    text = rng.choice(("\\ud800", "\\udfff\\ud800", "\\u0000", "\\u202e" * 50, "\x7f", "\\u0008", "\\uFFFF" * 9))
    body = f'{{"user_number":"+5521999990000","message":"a{text}","metadata":{{"{text}":1}}}}'
    return Hostile("surrogates and controls", (_post(body.encode()),))


def deep_json(rng: random.Random) -> Hostile:
    depth = rng.choice((40, 300, 1024, 5000, 100_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    deep = opening * depth + b"1" + closing * depth * rng.randrange(2)
    body = b'{"user_number":"+5521999990000","message":"a","metadata":{"a":' + deep + b"}}"
    return Hostile("deep JSON", (_post(rng.choice((deep, body)), path=_webhook(rng)),))


def huge_numbers(rng: random.Random) -> Hostile:
    number = rng.choice((b"9" * 5000, b"1e400", b"-1e-400", b"NaN", b"Infinity", b"0" * 99 + b"1", b"1" + b"0" * 400))
    name = rng.choice((b"user_number", b"message", b"metadata", b"message_type"))
    return Hostile("huge numbers", (_post(b'{"' + name + b'":' + number + b',"metadata":{"a":' + number + b"}}"),))


def duplicate_keys(rng: random.Random) -> Hostile:
    fields = [b'"user_number":"+5521999990000"', b'"message":"a"', b'"message":null', b'"user_number":[]']
    body = b"{" + b",".join(rng.choices(fields, k=rng.randrange(2, 2000))) + b"}"
    return Hostile("duplicate keys", (_post(body, path=_webhook(rng)),))


def wrong_types(rng: random.Random) -> Hostile:
    values: tuple[object, ...] = (
        None,
        True,
        -1,
        1e308,
        "",
        [],
        {},
        [[]],
        {"": {"": None}},
        "https://[::1",
        "https://\u2100.com/a.mp3",
        "+",
    )
    names = (
        "user_number",
        "message",
        "message_type",
        "previous_message",
        "metadata",
        "provider",
        "messages",
        "callback_url",
    )
    body = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(1, len(names)))}
    if rng.random() < 0.6:
        body |= {"user_number": "+5521999990000", "message": "a"}
    return Hostile("wrong types", (_post(json.dumps(body).encode(), path=_webhook(rng)),))


def not_json(rng: random.Random) -> Hostile:
    body = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    kind = rng.choice((b"application/json", b"text/plain", b"application/json; charset=utf-16", b"\xff", b"a" * 5000))
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return Hostile("not JSON", (head % (_webhook(rng).encode(), kind, len(body)) + body,))


def chunked_lies(rng: random.Random) -> Hostile:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = rng.choice(
        (b"5", b"FFFFFFFFFFFFFFFFF", b"-1", b"0x5", b"5;" + b"a" * 9000, b"", b"g", b"00000000005", b"7FFFFFFF")
    )
    tail = rng.choice((b"hello\r\n0\r\n\r\n", b"hello!!\r\n0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"\r\n\r\n"))
    return Hostile("chunked lies", (head % _webhook(rng).encode() + size + b"\r\n" + tail,), waits_for_answer=False)


def length_lies(rng: random.Random) -> Hostile:
    body = b'{"user_number":"+5521999990000","message":"a"}'
    length = rng.choice((b"-1", b"1e3", b"0x10", b"+46", b"46, 46", b"9" * 40, b"", b"46 46", b"18446744073709551616"))
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
    return Hostile("length lies", (head % _USER.encode() + length + b"\r\n\r\n" + body,), waits_for_answer=False)


def cut_short(rng: random.Random) -> Hostile:
    whole = _post(b'{"user_number":"+5521999990000","message":"abcdefgh"}', length=rng.choice((60, 1000, 2**40)))
    return Hostile("cut short", (whole[: rng.randrange(1, len(whole))],), waits_for_answer=False)


def slow_body(rng: random.Random) -> Hostile:
    whole = _post(b'{"user_number":"12","message":"a"}', path=_webhook(rng))
    parts = tuple(whole[at : at + 40] for at in range(0, len(whole), 40))
    return Hostile("slow body", parts, pause_s=rng.uniform(0.001, 0.05))


def header_flood(rng: random.Random) -> Hostile:
    count, size = rng.choice(((300, 10), (5000, 30), (10, 9000), (1, 200_000), (199, 300)))
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * size) for number in range(count))
    return Hostile("header flood", (_get(_POLL.encode(), headers),))


def long_target(rng: random.Random) -> Hostile:
    target = (
        _POLL.encode()
        + b"?message_id="
        + rng.choice((b"a", b"%00", b"%ff", b"&a=")) * rng.choice((100, 10_000, 90_000))
    )
    return Hostile("long target", (_get(target),))


def odd_target(rng: random.Random) -> Hostile:
    junk = bytes(rng.randrange(0x21, 0x100) for _ in range(rng.randrange(1, 60)))
    target = rng.choice(
        (b"*", b"//", b"/%", b"/%zz%00", b"http://[::1", b"/../../etc/passwd", b"/" + junk, b"x:" + junk)
    )
    return Hostile("odd target", (_get(target),))


def odd_query(rng: random.Random) -> Hostile:
    value = rng.choice(
        (b"%00", b"%ff%fe", b"%F0%9F%98%80" * 40, b"a" * 3000, b"{}", b"&&&", b"%", b"\xc3\x28", b"-1", b"1e9")
    )
    name = rng.choice((b"message_id", b"wait", b"user_number"))
    query = b"?message_id=018f2b5e-0000-7000-8000-00000000abcd&" * rng.randrange(2) + b"?" + name + b"=" + value
    headers = rng.choice(
        (b"", b"Accept: text/event-stream\r\n", b"Last-Event-ID: \xff\x80\r\n", b"Accept: " + value + b"\r\n")
    )
    return Hostile("odd query", (_get(rng.choice(_PATHS).encode() + query, headers),))


def odd_headers(rng: random.Random) -> Hostile:
    names = (
        b"Authorization",
        b"X-API-Key",
        b"Idempotency-Key",
        b"traceparent",
        b"X-Request-ID",
        b"X-Forwarded-For",
        b"Host",
    )
    values = (
        b"\xff" * 30,
        b"Bearer " + b"a." * 900,
        b"",
        b" \t ",
        b"00-" + b"z" * 52,
        b"1.2.3.4, ::1, x",
        b"a" * 4000,
        b"\x01",
    )
    headers = b"".join(rng.choice(names) + b": " + rng.choice(values) + b"\r\n" for _ in range(rng.randrange(1, 8)))
    body = b'{"user_number":"12","message":"a"}'
    request = _get(rng.choice(_PATHS).encode(), headers) if rng.randrange(2) else _post(body, headers=headers)
    return Hostile("odd headers", (request,))


def odd_methods(rng: random.Random) -> Hostile:
    method = rng.choice(
        (b"TRACE", b"CONNECT", b"OPTIONS", b"PRI", b"get", b"G\x00T", b"PATCH", b"DELETE", b"HEAD", b"M-SEARCH")
    )
    path = rng.choice(_PATHS).encode()
    return Hostile(
        "odd methods", (method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",), 0, False
    )


def smuggling(rng: random.Random) -> Hostile:
    inner = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    shapes = (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n12345" + inner,
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
        b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        b" Content-Length: 5\r\n\r\n12345" + inner,
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        + inner,
        b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + inner,
    )
    head = b"POST " + _USER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return Hostile("smuggling", (head + rng.choice(shapes),), waits_for_answer=bool(rng.randrange(2)))


def pipelined(rng: random.Random) -> Hostile:
    one = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    return Hostile("pipelined", (one * rng.randrange(2, 60) + rng.choice((b"", b"GARBAGE\r\n\r\n", b"\x16\x03\x01")),))


def no_http(rng: random.Random) -> Hostile:
    junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 2000)))
    start = rng.choice(
        (b"", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 500, b"GET / HTTP/9.9\r\n\r\n")
    )
    return Hostile("no HTTP", (start + junk,), waits_for_answer=False)


_KINDS: tuple[Kind, ...] = (
    broken_utf8,
    surrogates_and_controls,
    deep_json,
    huge_numbers,
    duplicate_keys,
    wrong_types,
    not_json,
    chunked_lies,
    length_lies,
    cut_short,
    slow_body,
    header_flood,
    long_target,
    odd_target,
    odd_query,
    odd_headers,
    odd_methods,
    smuggling,
    pipelined,
    no_http,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole run; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="for both services together")
    parser.add_argument("--seed", type=int, default=20_260_101)
    told = parser.parse_args(arguments)
    settings = {"LOG_LEVEL": "error", "RATE_LIMIT_BURST": "0", "RATE_LIMIT_REQUESTS_PER_MINUTE": "0"}
    with tempfile.TemporaryDirectory() as name, five_processes(Path(name), **settings) as gateway:
        return max(_service(gateway, service, told.requests // 2, told.seed) for service in ("ingress", "poller"))


def _service(gateway: FiveProcesses, service: str, requests: int, seed: int) -> int:
    host, _, port = gateway.url(service).removeprefix("http://").partition(":")
    process = psutil.Process(gateway.process(service).popen.pid)
    began, warm_up = time.monotonic(), int(requests * _WARM_UP)
    first = asyncio.run(attack(host, int(port), requests=warm_up, seed=seed))
    before = process.memory_info().rss
    second = asyncio.run(attack(host, int(port), requests=requests - warm_up, seed=seed + 1))
    bad = first.bad + second.bad
    if not gateway.is_ready(service):
        bad.append("not ready afterwards")
    result = {
        "service": service,
        "requests": first.sent + second.sent,
        "seed": seed,
        "statuses": dict(first.statuses + second.statuses),
        "bad": len(bad),
        "memory_mb": [round(before / 2**20, 1), round(process.memory_info().rss / 2**20, 1)],
        "open_connections": len([one for one in process.net_connections("tcp") if one.status == "ESTABLISHED"]),
        "took_s": round(time.monotonic() - began),
    }
    sys.stdout.write(json.dumps(result) + "\n" + "".join(f"{line}\n" for line in bad[:10]))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
