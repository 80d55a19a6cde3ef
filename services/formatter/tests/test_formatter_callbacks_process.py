"""The formatter as a process, on RabbitMQ and Redis, killed while it delivers callbacks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import pytest
from pydantic import SecretStr

from eai_common.broker import Outgoing
from eai_common.broker.rabbitmq import RabbitBroker, RabbitSettings, open_rabbitmq
from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.messages import TaskCompleted, encode
from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import TaskStore, open_redis
from eai_common.testing import RANDOM, eventually
from eai_common.topology import Topology
from eai_formatter.callbacks.testing import Receiver, Reply

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwQ0s="


class Server(Protocol):
    url: str


class Formatter:
    """`python -m eai_formatter`, with queues of its own."""

    def __init__(self, rabbitmq: Server, redis: Server) -> None:
        self.topology = Topology(exchange=f"test-{uuid.uuid4().hex[:12]}", prefix=f"test-{uuid.uuid4().hex[:12]}")
        self.settings = RabbitSettings(rabbitmq.url, self.topology)
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "PORT": "0",
            "HOST": "127.0.0.1",
            "ENVIRONMENT": "production",
            "LOG_LEVEL": "warning",
            "RABBITMQ_URL": rabbitmq.url,
            "RABBITMQ_EXCHANGE": self.topology.exchange,
            "RABBITMQ_QUEUE_PREFIX": self.topology.prefix,
            "REDIS_URL": redis.url,
            "CHECKPOINT_LEASE": "1s",
            "CALLBACK_SECRETS": SECRET,
            "CALLBACK_ALLOW_HTTP": "true",
            "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8",
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "eai_formatter", env=self._environment, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def ends(receiver: Receiver, count: int) -> list[TaskCompleted]:
    ids = Ids(SystemClock(), RANDOM)
    return [
        TaskCompleted(
            message_id=ids.message_id(),
            user_number="+5521999990000",
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            status="completed",
            callback_url=receiver.url,
            result={"status": "completed", "content": "Olá!", "data": {}},
        )
        for _ in range(count)
    ]


async def send(broker: RabbitBroker, events: Sequence[TaskCompleted]) -> None:
    for event in events:
        await broker.publish(Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp))


async def until_it_waits_in_the_ladder(event: TaskCompleted, redis_server: Server) -> None:
    async with open_redis(RedisSettings(url=SecretStr(redis_server.url))) as redis:
        tasks = TaskStore(redis, TaskSettings())

        async def is_noted() -> bool:
            status = (await tasks.read(event.message_id)).status
            return status is not None and "next try" in status.fields.get("callback:last_error", "")

        await eventually(is_noted)


async def test_killed_while_it_delivers_it_loses_nothing_and_repeats_under_the_same_id(
    rabbitmq_server: Server, redis_server: Server
) -> None:
    formatter = Formatter(rabbitmq_server, redis_server)
    hanging, failing, quick = Receiver(usually=Reply(hangs=True)), Receiver(Reply(500)), Receiver()
    async with open_rabbitmq(formatter.settings, SystemClock(), RANDOM) as broker, hanging, failing, quick:
        cut_off, retried, first, later = ends(hanging, 3), ends(failing, 1), ends(quick, 20), ends(quick, 20)
        async with formatter.running() as process:
            await send(broker, [*cut_off, *retried, *first])
            await eventually(
                lambda: len(set(quick.ids)) == 20 and len(hanging.ids) == 3 and len(failing.ids) == 1, within_s=30
            )
            await until_it_waits_in_the_ladder(retried[0], redis_server)  # where the death does not find it
            process.send_signal(signal.SIGKILL)
            await process.wait()
        hanging.usually = Reply()
        await send(broker, later)
        async with formatter.running() as process:
            await eventually(
                lambda: len(set(quick.ids)) == 40 and len(hanging.ids) == 6 and len(failing.ids) >= 2, within_s=30
            )
            process.terminate()
            assert await process.wait() == 0
        queue = formatter.topology.queue_of("callbacks")
        left = [await broker.depth(queue), await broker.depth(f"{queue}.dlq")]
        assert (sorted(hanging.ids), left) == (sorted(2 * [event.message_id for event in cut_off]), [0, 0])
        assert failing.ids == [retried[0].message_id] * 2
        assert failing.received[1].at_s - failing.received[0].at_s >= 5
        assert all(request.verified(SECRET) for request in [*hanging.received, *failing.received, *quick.received])
