"""How many messages a second one ingress process accepts, against two other ways to do the same two writes.

Each side is one uvicorn worker with uvloop and httptools, before the same private RabbitMQ (a quorum queue, confirmed
publishes) and the same private Redis. Load comes from this process over keep-alive connections; each answer must be a
202.
The sides take turns, round by round. Baselines, measured in the same run:

- `bare`: a raw ASGI function with the fastest calls: Redis commands of all waiting requests in one pipeline, aiormq,
  no validation, no telemetry, no routing. What is left to gain.
- `naive`: Starlette, pydantic, redis-py and aio-pika, as one would write it first.

Load generator, broker, Redis and worker share this machine's cores, so the ratios are worth more than the figures;
`cpu_us` is the worker's own processor time for each request, which other load on the machine disturbs least.

    .venv/bin/python benchmarks/ingress.py [--rounds 5] [--seconds 4] [--connections 64]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import aio_pika
import aiormq
import httpx
import orjson
import psutil
import redis.asyncio
import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from eai_cli.servers import run_private_rabbitmq, run_private_redis
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.topology import Topology

SIDES = ("gateway", "bare", "naive")
PATH = "/api/v1/message/webhook/user"
QUEUE, EXCHANGE, KEY = "eai.agent-router", "eai_agent_exchange", "message.text"
BODY = {"user_number": "5521999990000", "message": "Qual o horário do posto de saúde?"}
_READY_WITHIN_S = 60.0
_USERS = itertools.cycle(range(20_000))  # nobody answers them, and each keeps a few messages open, as people do


def main() -> int:
    """Run all and print the JSON; or, as a child, serve one of the baselines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=4, help="of each turn")
    parser.add_argument("--connections", type=int, default=64, help="requests under way")
    parser.add_argument("--serve", choices=SIDES[1:], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(given.serve)
        return 0
    print(json.dumps(_report(given.rounds, given.seconds, given.connections), indent=2))
    return 0


def _report(rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rabbitmq, redis_ = stack.enter_context(run_private_rabbitmq()), stack.enter_context(run_private_redis())
        asyncio.run(_declare(rabbitmq.url))
        sides = [
            stack.enter_context(_started(name, rabbitmq.url, redis_.url, folder / f"{name}.log")) for name in SIDES
        ]
        for side in sides:
            asyncio.run(_turn(side, rabbitmq.url, 1.0, connections))  # warm
            side.turns.clear()
        for _ in range(rounds):
            for side in sides:
                side.turns.append(asyncio.run(_turn(side, rabbitmq.url, seconds, connections)))
    measured = {side.name: side.summary() for side in sides}
    return {
        "benchmark": "ingress",
        "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0], "load": round(os.getloadavg()[0], 1)},
        "rounds": rounds,
        "seconds": seconds,
        "connections": connections,
        "baselines": {
            "bare": "raw ASGI, batched redis-py, aiormq",
            "naive": "Starlette, pydantic, redis-py, aio-pika",
        },
        **measured,
        "ratios": {
            f"{figure}_to_{other}": round(
                statistics.median(
                    one[figure] / two[figure] for one, two in zip(sides[0].turns, side.turns, strict=True)
                ),
                2,
            )
            for figure in ("accepted_per_s", "cpu_us")
            for other, side in zip(SIDES[1:], sides[1:], strict=True)
        },
    }


# Sides


@dataclass
class Side:
    """A running worker, and what its turns came to."""

    name: str
    port: int
    process: psutil.Process
    turns: list[dict[str, float]] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        return {figure: round(statistics.median(turn[figure] for turn in self.turns), 1) for figure in self.turns[0]}


@contextmanager
def _started(name: str, rabbitmq_url: str, redis_url: str, log: Path) -> Iterator[Side]:
    environ = {
        "PATH": os.environ["PATH"],
        "RABBITMQ_URL": rabbitmq_url,
        "REDIS_URL": redis_url,
        "HOST": "127.0.0.1",
        "PORT": str(port := _free_port()),
        "BACKPRESSURE_QUEUE_LIMIT": "1000000",
    }
    command = (
        [sys.executable, "-m", "eai_ingress"] if name == "gateway" else [sys.executable, __file__, "--serve", name]
    )
    with log.open("wb") as output:
        child = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(name, port, child, log)
        yield Side(name, port, psutil.Process(child.pid))
    finally:
        child.terminate()
        child.wait(30)


def _wait_until_ready(name: str, port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            if httpx.post(f"http://127.0.0.1:{port}{PATH}", json=BODY, trust_env=False).status_code == 202:
                return
        except httpx.TransportError:
            pass
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} does not accept:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


async def _declare(url: str) -> None:
    async with open_rabbitmq(RabbitSettings(url, Topology()), SystemClock(), SystemRandom()):
        pass


# Load


async def _turn(side: Side, rabbitmq_url: str, seconds: float, connections: int) -> dict[str, float]:
    """One turn of one side; the queue is emptied before it."""
    async with await aiormq.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.queue_purge(QUEUE)
        loads = [await _Load.connected(side.port) for _ in range(connections)]
        cpu_before, began = _cpu_s(side.process), time.perf_counter()
        for load in loads:
            load.send()
        await asyncio.sleep(seconds)
        for load in loads:
            load.is_stopping = True
        await asyncio.gather(*(load.stopped for load in loads))
        took_s, cpu_s = time.perf_counter() - began, _cpu_s(side.process) - cpu_before
        accepted = sum(load.accepted for load in loads)
        queued = (await channel.queue_declare(QUEUE, passive=True)).message_count or 0
    if queued < accepted:
        raise RuntimeError(f"{side.name}: {accepted} were accepted, but {queued} are in the queue")
    waited = sorted(waited for load in loads for waited in load.waited_s)
    return {
        "accepted_per_s": accepted / took_s,
        "cpu_us": cpu_s / accepted * 1e6,
        "p50_ms": waited[len(waited) // 2] * 1000,
        "p99_ms": waited[int(len(waited) * 0.99)] * 1000,
    }


class _Load(asyncio.Protocol):
    """One keep-alive connection that sends the next request when it has the answer to the last."""

    def __init__(self) -> None:
        body = orjson.dumps(BODY)
        head = f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._head, self._tail = (head.encode() + b"\r\n\r\n" + body).split(BODY["user_number"].encode())
        self._got = b""
        self._sent_at_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.accepted = 0
        self.waited_s: list[float] = []
        self.is_stopping = False
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connected(cls, port: int) -> _Load:
        _, load = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self) -> None:
        assert self._transport is not None
        self._sent_at_s = time.perf_counter()
        self._transport.write(self._head + b"55219%08d" % next(_USERS) + self._tail)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self.stopped.set_exception(RuntimeError(f"not accepted: {self._got[:500]!r}"))
            return
        self.accepted += 1
        self.waited_s.append(time.perf_counter() - self._sent_at_s)
        self._got = b""
        if self.is_stopping:
            assert self._transport is not None
            self._transport.close()
            self.stopped.set_result(None)
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.stopped.done():
            self.stopped.set_exception(RuntimeError(f"the connection was lost: {error}"))


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length: ")
    return int(after.partition(b"\r\n")[0])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Baselines


def _serve(name: str) -> None:
    app = _Bare() if name == "bare" else _naive()
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)


class _Bare:
    """The two writes, and nothing else."""

    def __init__(self) -> None:
        self._ids = Ids(SystemClock(), SystemRandom())
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = (await receive())["body"]
        fields, now = orjson.loads(body), time.time()
        message_id = self._ids.message_id()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((("HSET", f"task:status:{{{message_id}}}", "status", "processing", "at", now), written))
        self._waiting.append((("PEXPIRE", f"task:status:{{{message_id}}}", 86_400_000), written))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        await written
        event = orjson.dumps({"schema": 1, "message_id": message_id, **fields, "timestamp": now})
        await self._channel.basic_publish(  # type: ignore[call-arg]  # the abstract class leaves `wait` out
            event,
            exchange=EXCHANGE,
            routing_key=KEY,
            properties=aiormq.spec.Basic.Properties(
                content_type="application/json", delivery_mode=2, message_id=message_id, message_type=KEY
            ),
            mandatory=True,
            wait=False,
        )
        answer = orjson.dumps({"message_id": message_id, "status": "queued"})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._redis = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
        connection = await aiormq.connect(os.environ["RABBITMQ_URL"])
        self._channel = await connection.channel(publisher_confirms=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await connection.close()
        await self._redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _send_all(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            async with self._redis.pipeline(transaction=False) as pipeline:
                for command, _ in taken:
                    pipeline.execute_command(*command)
                await pipeline.execute()
            for _, written in taken:
                if not written.done():
                    written.set_result(None)
        self._sender = None


class _NaiveMessage(BaseModel):
    user_number: str
    message: str


def _naive() -> ASGIApp:
    """As one would write it first."""
    ids = Ids(SystemClock(), SystemRandom())

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        app.state.redis = redis.asyncio.from_url(os.environ["REDIS_URL"])
        connection = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
        async with connection:
            channel = await connection.channel()
            app.state.exchange = await channel.get_exchange(EXCHANGE)
            yield
        await app.state.redis.aclose()

    async def post(request: Request) -> JSONResponse:
        message = _NaiveMessage.model_validate_json(await request.body())
        message_id, now = ids.message_id(), time.time()
        key = f"task:status:{{{message_id}}}"
        await request.app.state.redis.hset(key, mapping={"status": "processing", "at": now})
        await request.app.state.redis.expire(key, 86_400)
        event = {"schema": 1, "message_id": message_id, **message.model_dump(), "timestamp": now}
        await request.app.state.exchange.publish(
            aio_pika.Message(
                json.dumps(event).encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=message_id,
                type=KEY,
            ),
            routing_key=KEY,
        )
        return JSONResponse({"message_id": message_id, "status": "queued"}, 202)

    return Starlette(routes=[Route(PATH, post, methods=["POST"])], lifespan=opened)


if __name__ == "__main__":
    sys.exit(main())
