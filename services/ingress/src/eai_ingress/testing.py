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
from eai_common.http import HttpParts, build_app, open_protection
from eai_common.ids import Ids
from eai_common.service import Parts
from eai_common.settings import load
from eai_common.store import RedisClient, open_memory_redis, open_wakeups
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM
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


@dataclass(frozen=True, slots=True)
class World:
    """What an ingress stands on, where a test wants other than its own: what several share, or what goes wrong."""

    redis: RedisClient | None = None
    broker: MemoryBroker | None = None
    seen_as: Callable[[MemoryBroker], Broker] | None = None  # the broker as this ingress meets it
    clock: Clock = field(default_factory=SystemClock)


@asynccontextmanager
async def open_ingress(world: World | None = None, **environ: str) -> AsyncIterator[Ingress]:
    """Ingress as its wiring makes it, in `world`."""
    world = world if world is not None else World()
    settings = load(Settings, environ)
    clock, random, metrics = world.clock, RANDOM, Metrics()
    tracing = open_tracing(settings.telemetry, service="ingress")
    async with AsyncExitStack() as stack:
        redis = world.redis if world.redis is not None else await stack.enter_async_context(open_memory_redis())
        broker = world.broker
        if broker is None:
            broker = await stack.enter_async_context(MemoryBroker(settings.broker.topology, clock))
        ids = Ids(clock, random, settings.tasks.message_id_key.get_secret_value().encode())
        seen = broker if world.seen_as is None else world.seen_as(broker)
        wakeups = await stack.enter_async_context(open_wakeups(redis))
        parts = Parts(redis, clock, random, ids, metrics, tracing, opened_broker=seen, opened_wakeups=wakeups)
        service = await stack.enter_async_context(INGRESS.build(settings, parts))
        protection = await stack.enter_async_context(
            open_protection(settings, redis=redis, clock=clock, metrics=metrics)
        )
        parts_of_http = HttpParts(ids, metrics, tracing, settings.http, settings.telemetry, protection)
        app = build_app(service.routes, parts_of_http)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        yield Ingress(await stack.enter_async_context(client), broker, redis, settings, metrics)
