"""What clients cost that wait for their result in one poller process, on a private Redis.

Prints JSON. The named baseline, measured in the same run in turns with the poller, is `bare`: a Starlette route on the
same uvicorn that awaits an event for each request, without Redis, auth, metrics, traces or deadlines.

    .venv/bin/python benchmarks/waiters.py [--clients 5000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eai_cli.servers import run_private_redis
from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import TaskStore, open_redis

_LIMIT_MB = 150.0
_SETTLES_S = 2.0
_WARM_UP = 200


@dataclass(frozen=True, slots=True)
class Process:
    """A server under measurement."""

    pid: int
    port: int

    def memory_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20

    def cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


def main() -> int:
    """Run all and print the JSON; as `--bare`, be the baseline's process. Fails beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.bare:
        _serve_bare()
        return 0
    _allow_files(told.clients + 500)
    with run_private_redis() as redis:
        rounds = [_round(redis.url, told.clients) for _ in range(told.rounds)]
    long_poll, stream, bare = (
        {name: round(statistics.median(one[kind][name] for one in rounds), 3) for name in rounds[0][kind]}
        for kind in ("long_poll", "stream", "bare")
    )
    result = {
        "clients": told.clients,
        "rounds": told.rounds,
        "long_poll": long_poll,
        "stream": stream,
        "bare": bare,
        "ratio_memory_long_poll_to_bare": round(long_poll["more_memory_mb"] / bare["more_memory_mb"], 2),
        "limit_mb": _LIMIT_MB,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return int(max(long_poll["more_memory_mb"], stream["more_memory_mb"]) > _LIMIT_MB)


def _round(redis_url: str, clients: int) -> dict[str, dict[str, float]]:
    with _poller(redis_url) as process:
        long_poll = asyncio.run(_waiting(process, redis_url, clients, b""))
    with _poller(redis_url) as process:
        stream = asyncio.run(_waiting(process, redis_url, clients, b"Accept: text/event-stream\r\n"))
    with _bare() as process:
        bare = asyncio.run(_waiting(process, None, clients, b""))
    return {"long_poll": long_poll, "stream": stream, "bare": bare}


async def _waiting(process: Process, redis_url: str | None, clients: int, headers: bytes) -> dict[str, float]:
    """Open the waits, look at the memory while nothing happens, end all messages, and take the answers."""
    ids = Ids(SystemClock(), SystemRandom())
    warm = [await _open(process.port, ids.message_id(), headers) for _ in range(_WARM_UP)]
    for _, writer in warm:
        writer.close()
    await asyncio.sleep(_SETTLES_S)
    before = process.memory_mb()
    names = [ids.message_id() for _ in range(clients)]
    began = time.monotonic()
    opened = [await _open(process.port, name, headers) for name in names]
    opened_s = time.monotonic() - began
    await asyncio.sleep(_SETTLES_S)
    more, cpu = process.memory_mb() - before, process.cpu_s()
    await asyncio.sleep(_SETTLES_S * 2)
    idle = (process.cpu_s() - cpu) / (_SETTLES_S * 2)
    result = {"more_memory_mb": more, "kb_each": more * 1024 / clients, "idle_cpu_share": idle, "opened_s": opened_s}
    if redis_url is not None:
        result["answered_s"] = await _end_all(redis_url, names, opened)
    for _, writer in opened:
        writer.close()
    return result


async def _end_all(
    redis_url: str, names: Sequence[str], opened: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
) -> float:
    """Seconds from the first end to the last answer."""
    now, began = datetime.now(UTC), time.monotonic()
    async with open_redis(RedisSettings.read({"REDIS_URL": redis_url})) as redis:
        tasks = TaskStore(redis, TaskSettings.read({}))
        for name in names:
            await tasks.finish(name, "completed", b'{"status":"completed"}', at=now, accepted_at=now)
    async with asyncio.timeout(60):
        for reader, _ in opened:
            answer = await reader.readuntil(b'{"status":"completed"}')
            assert b" 200 OK" in answer or answer.startswith((b"id: ", b"\r\n", b"event: ")), answer[:300]
    return time.monotonic() - began


async def _open(port: int, message_id: str, headers: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    target = f"/api/v1/message/response?message_id={message_id}&wait=30".encode()
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: gateway\r\n" + headers + b"\r\n")
    await writer.drain()
    return reader, writer


@contextmanager
def _poller(redis_url: str) -> Iterator[Process]:
    settings = {
        "REDIS_URL": redis_url,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "POLLER_MAX_WAITING": "100000",
        "ENABLE_REQUEST_LOGGING": "false",
    }
    with _started([sys.executable, "-m", "eai_poller"], settings, r'"address":"127\.0\.0\.1:(\d+)"') as process:
        yield process


@contextmanager
def _bare() -> Iterator[Process]:
    with _started([sys.executable, __file__, "--bare"], {}, r"running on http://127\.0\.0\.1:(\d+)") as process:
        yield process


@contextmanager
def _started(command: list[str], settings: dict[str, str], says: str) -> Iterator[Process]:
    with subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = ""
            while not (found := re.search(says, line)):
                line = process.stderr.readline()
                assert line, f"{command} ended"
            yield Process(process.pid, int(found[1]))
        finally:
            process.kill()


def _serve_bare() -> None:
    async def wait(request: Request) -> Response:
        await asyncio.Event().wait()
        return JSONResponse({})

    app = Starlette(routes=[Route("/api/v1/message/response", wait)])
    uvicorn.run(app, host="127.0.0.1", port=0, loop="uvloop", access_log=False)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        sys.exit(f"this machine lets a process open {hard} files only; {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


if __name__ == "__main__":
    sys.exit(main())
