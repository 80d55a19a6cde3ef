"""A whole ingress for tests, without a network: its wiring, on the in-memory broker and an in-memory Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from eai_common.broker import Broker
from eai_common.broker.memory import MemoryBroker, Message
from eai_common.clock import Clock, SystemClock
from eai_common.process.testing import open_in_memory
from eai_common.settings import load
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics
from eai_ingress.service import INGRESS
from eai_ingress.settings import Settings

__all__ = ["BODY", "PATH", "ROUTER", "TRANSCRIBER", "Ingress", "World", "open_ingress"]

PATH = "/api/v1/message/webhook/user"
BODY = {"user_number": "5521999990000", "message": "Oi"}
ROUTER, TRANSCRIBER = "eai.agent-router", "eai.transcriber"


@dataclass
class Ingress:
    """A running ingress, and what it stands on."""

    client: httpx.AsyncClient
    broker: MemoryBroker
    redis: RedisClient
    settings: Settings
    metrics: Metrics

    async def post(self, body: Any = None, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(PATH, json=BODY if body is None else body, headers=sent)

    def queued(self, queue: str = ROUTER) -> Message:
        (message,) = self.broker.contents(queue)
        return message

    async def open_messages(self) -> list[str]:
        """The ids in the user's inbox, in their order."""
        order = await self.redis.driver.hget("inbox:{+5521999990000}", "order")
        return [one.decode() for one in order.split()] if isinstance(order, bytes) else []


@dataclass(frozen=True, slots=True)
class World:
    """What an ingress stands on, where a test wants other than its own: what several share, or what goes wrong."""

    redis: RedisClient | None = None
    broker: MemoryBroker | None = None
    seen_as: Callable[[MemoryBroker], Broker] | None = None  # the broker as this ingress meets it
    clock: Clock = field(default_factory=SystemClock)


@asynccontextmanager
async def open_ingress(world: World | None = None, **environ: str) -> AsyncIterator[Ingress]:
    """Ingress as its process composes it, in `world`."""
    world = world if world is not None else World()
    settings = load(Settings, environ)
    async with AsyncExitStack() as stack:
        broker = world.broker
        if broker is None:
            broker = await stack.enter_async_context(MemoryBroker(settings.broker.topology, world.clock))
        seen = broker if world.seen_as is None else world.seen_as(broker)
        opening = open_in_memory([INGRESS], environ, broker=seen, redis=world.redis, clock=world.clock)
        tested = await stack.enter_async_context(opening)
        resources = tested.process.resources
        yield Ingress(tested.client, broker, resources.redis, settings, resources.metrics)
