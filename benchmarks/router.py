"""What the agent router costs for each message, and how many turns one replica has under way without losing time.

On private RabbitMQ and Redis servers, with a sandbox agent, it prints JSON. The named baseline, measured in the same
run in turns with the router, is `bare`: an aio-pika loop that consumes, asks the same agent by the same adapter,
publishes the answer with a confirm, and acks; no Redis, no order, no checkpoint, no log. CPU is each process' own.

    .venv/bin/python benchmarks/router.py [--messages 1000] [--rounds 3] [--turns 640]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import SystemRandom
from typing import Any

import aio_pika
import httpx
import orjson
import psutil
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from eai_agent_router.agent import Agent, Turn
from eai_agent_router.conversations import ConversationStore
from eai_agent_router.provider import ProviderResources
from eai_agent_router.settings import AgentSettings
from eai_agent_router.threads import AgentIdCache
from eai_agent_router.wiring import open_agents
from eai_cli.sandbox_process import sandbox_environment, start_sandbox
from eai_cli.servers import run_private_rabbitmq, run_private_redis
from eai_common.broker import Broker, Outgoing
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.clock import Deadline, SystemClock
from eai_common.ids import Ids
from eai_common.messages import MessageText, encode
from eai_common.settings import RedisSettings, load
from eai_common.store import open_redis
from eai_common.topology import Topology
from eai_common.turns.bodies import inbox_message
from eai_common.turns.state import Rules
from eai_common.turns.store import InboxStore

ROOT = Path(__file__).resolve().parents[1]
_IN, _OUT = "eai.agent-router", "eai.formatter"
_BARE_IN, _BARE_OUT = "bare.in", "bare.out"
_WARM = 100
_LATENCY_S = 2.0
_DAY = timedelta(days=1)
_NO_LIMIT_REACHED = "1000000"  # so that the limiter is asked each time, and refuses nobody


def main() -> int:
    """Run all and print the JSON; as `--bare`, be the baseline's process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1000, help="in each measurement of CPU")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of CPU of each side")
    parser.add_argument("--turns", type=int, default=640, help="turns of 2 s in each measurement of speed")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare is not None:
        uvloop.run(_be_bare(given.bare))
        return 0
    print(json.dumps(_report(given), indent=2))
    return 0


def _report(given: argparse.Namespace) -> dict[str, Any]:
    with _world() as world:
        sides: dict[str, list[float]] = {"bare": [], "router": []}
        for _ in range(given.rounds):
            for side, cpu_ms in sides.items():
                cpu_ms.append(round(_cpu_ms(world, side, given.messages), 3))
        world.slow_down()
        speed = {
            name: _speed(world, side, given.turns, **settings)
            for name, side, settings in (
                ("bare", "bare", {}),
                ("router_one_provider", "router", {}),
                ("router_three_providers", "router", {"EAI_AGENT_SERVICE_URL": world.sandbox_url, "OPENAI_MODEL": "m"}),
            )
        }
    ideal = given.turns / _ideal_s(given.turns)
    cpu = {side: statistics.median(values) for side, values in sides.items()}
    return {
        "benchmark": "router",
        "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0]},
        "baseline": {
            "name": "bare: an aio-pika loop with the same call to the agent",
            "cpu_ms_per_message": cpu["bare"],
        },
        "messages": given.messages,
        "cpu_ms_per_message": {"median": cpu, "rounds": sides},
        "turns_of_2_s": {"count": given.turns, "under_way": 64, "ideal_per_s": round(ideal, 1), "per_s": speed},
        "ratios": {
            "router_cpu_to_bare_cpu": round(cpu["router"] / cpu["bare"], 2),
            **{f"{name}_to_ideal": round(per_s / ideal, 3) for name, per_s in speed.items()},
        },
    }


def _ideal_s(turns: int) -> float:
    return -(-turns // 64) * _LATENCY_S


@dataclass(frozen=True)
class World:
    """The servers, and how a process is told about them."""

    rabbit_url: str
    redis_url: str
    sandbox_url: str
    environ: dict[str, str]

    def slow_down(self) -> None:
        fault = {"target": "agent_engine", "kind": "latency", "seconds": _LATENCY_S}
        httpx.put(f"{self.sandbox_url}/sandbox/faults", json=fault, trust_env=False).raise_for_status()


@contextmanager
def _world() -> Iterator[World]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(start_sandbox()).wait_for_address()
        rabbit = stack.enter_context(run_private_rabbitmq())
        redis = stack.enter_context(run_private_redis())
        # One provider, as most deployments have: the others' settings are for `router_three_providers`.
        agent = {
            key: value for key, value in sandbox_environment(sandbox).items() if key.startswith(("GOOGLE", "AGENT_E"))
        }
        environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(
                str(path) for kind in ("libs", "services", "tools") for path in ROOT.glob(f"{kind}/*/src")
            ),
            **agent,
            "GOOGLE_API_RATE_LIMIT": _NO_LIMIT_REACHED,
            "RABBITMQ_URL": rabbit.url,
            "REDIS_URL": redis.url,
            "HOST": "127.0.0.1",
            "PORT": "0",
        }
        yield World(rabbit.url, redis.url, sandbox.http_url, environ)


def _cpu_ms(world: World, side: str, messages: int) -> float:
    """CPU milliseconds for each message, after some that warm the process up."""

    async def measured(process: psutil.Process) -> float:
        async with _feed(world, side) as feed:
            await feed.run(_WARM)
            before = process.cpu_times()
            await feed.run(messages)
            after = process.cpu_times()
        return float((after.user + after.system - before.user - before.system) * 1000 / messages)

    with _process(world, side, parallel=10) as process:
        return asyncio.run(measured(process))


def _speed(world: World, side: str, turns: int, **settings: str) -> float:
    """Turns a second, with 64 under way."""

    async def measured() -> float:
        async with _feed(world, side) as feed:
            return turns / await feed.run(turns)

    with _process(world, side, parallel=64, **settings):
        return round(asyncio.run(measured()), 2)


@contextmanager
def _process(world: World, side: str, *, parallel: int, **settings: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "eai_agent_router"]
    if side == "bare":
        command = [sys.executable, str(Path(__file__).resolve()), "--bare", str(parallel)]
    environ = {**world.environ, "MAX_PARALLEL": str(parallel), **settings}
    with tempfile.TemporaryFile() as log:
        popen = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield psutil.Process(popen.pid)
        finally:
            popen.terminate()
            popen.wait(30)


class Feed:
    """Puts messages in as ingress does, and takes out what comes of them."""

    def __init__(self, broker: Broker, inboxes: InboxStore, out: aio_pika.abc.AbstractQueue, bare: Any) -> None:
        self._broker = broker
        self._inboxes = inboxes
        self._out = out
        self._bare = bare
        self._ids = Ids(SystemClock(), SystemRandom())

    async def run(self, messages: int) -> float:
        """Seconds until as many came out as were put in, all at once."""
        done = asyncio.Event()
        left = messages

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if not left:
                done.set()

        tag = await self._out.consume(take)
        prepared = [self._message(number) for number in range(messages)]
        if self._bare is None:
            for message in prepared:
                await self._inboxes.accept(message.user_number, inbox_message(message))
        began = time.perf_counter()
        await asyncio.gather(*(self._put(message) for message in prepared))
        async with asyncio.timeout(300):
            await done.wait()
        took_s = time.perf_counter() - began
        await self._out.cancel(tag)
        return took_s

    def _message(self, number: int) -> MessageText:
        return MessageText(
            message_id=self._ids.message_id(),
            user_number=f"+5521{number:09d}",
            timestamp=SystemClock().now(),
            message=f"Pergunta {number}",
        )

    async def _put(self, message: MessageText) -> None:
        body = encode(message)
        if self._bare is not None:
            await self._bare.publish(aio_pika.Message(body, delivery_mode=2), _BARE_IN)
            return
        await self._broker.publish(Outgoing(message.name, body, message.message_id, message.name, message.timestamp))


@asynccontextmanager
async def _feed(world: World, side: str) -> AsyncIterator[Feed]:
    settings = RedisSettings.read({"REDIS_URL": world.redis_url})
    async with (
        open_rabbitmq(
            RabbitSettings(world.rabbit_url, Topology(), connection_name="bench"), SystemClock(), SystemRandom()
        ) as broker,
        open_redis(settings) as redis,
        await aio_pika.connect(world.rabbit_url) as connection,
    ):
        channel = await connection.channel()
        await channel.set_qos(200)
        await _bare_queues(channel)
        out = await channel.get_queue(_BARE_OUT if side == "bare" else _OUT, ensure=False)
        yield Feed(broker, InboxStore(redis, Rules(), _DAY), out, channel.default_exchange if side == "bare" else None)


async def _bare_queues(channel: aio_pika.abc.AbstractChannel) -> aio_pika.abc.AbstractQueue:
    quorum: dict[str, Any] = {"x-queue-type": "quorum"}
    await channel.declare_queue(_BARE_OUT, durable=True, arguments=quorum)
    return await channel.declare_queue(_BARE_IN, durable=True, arguments=quorum)


async def _be_bare(parallel: int) -> None:
    """The baseline: consume, ask, publish, ack."""
    settings = load(AgentSettings, os.environ)
    async with (
        open_redis(RedisSettings.read(os.environ)) as redis,  # the adapters' ports want one; this one never uses it
        open_agents(
            settings, ProviderResources(AgentIdCache(redis, _DAY), ConversationStore(redis, _DAY), SystemClock())
        ) as agents,
        await aio_pika.connect(os.environ["RABBITMQ_URL"]) as connection,
    ):
        agent = agents["google_agent_engine"]
        channel = await connection.channel()
        await channel.set_qos(parallel)
        exchange = channel.default_exchange

        async def handle(message: AbstractIncomingMessage) -> None:
            answer = await _ask(agent, orjson.loads(message.body))
            await exchange.publish(aio_pika.Message(answer, delivery_mode=2), _BARE_OUT)
            await message.ack()

        queue = await _bare_queues(channel)
        await queue.consume(handle)
        await asyncio.Event().wait()


async def _ask(agent: Agent, body: dict[str, Any]) -> bytes:
    turn = Turn(body["message_id"], body["user_number"], body["message"])
    answer = await agent.ask(turn, deadline=Deadline.after(timedelta(minutes=5)))
    return orjson.dumps([message.model_dump() for message in answer.messages])


if __name__ == "__main__":
    sys.exit(main())
