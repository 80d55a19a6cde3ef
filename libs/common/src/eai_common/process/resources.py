"""Opens the resources of a process. The clients of real servers are opened here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random, SystemRandom

from eai_common.broker import Broker
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.clock import Clock, SystemClock
from eai_common.ids import Ids
from eai_common.process.definition import BrokerResources, Resources
from eai_common.process.settings import CommonSettings
from eai_common.settings import BrokerSettings, RedisSettings
from eai_common.store import RedisClient, open_redis, open_wakeups
from eai_common.telemetry import Metrics, open_tracing

__all__ = ["REAL", "Clients", "open_resources"]


@dataclass(frozen=True, slots=True)
class Clients:
    """How a process reaches its broker and Redis. `open_broker` takes the connection's name, too."""

    open_broker: Callable[[BrokerSettings, str, Clock, Random], AbstractAsyncContextManager[Broker]]
    open_redis: Callable[[RedisSettings], AbstractAsyncContextManager[RedisClient]]


def _open_rabbitmq(
    settings: BrokerSettings, name: str, clock: Clock, random: Random
) -> AbstractAsyncContextManager[Broker]:
    options = RabbitSettings(
        url=settings.url.get_secret_value(),
        topology=settings.topology,
        publish_timeout=settings.publish_timeout,
        connect_timeout=settings.connect_timeout,
        connection_name=name,
    )
    return open_rabbitmq(options, clock, random)


REAL = Clients(_open_rabbitmq, open_redis)
"""RabbitMQ and RedisClient, where the settings say."""


@asynccontextmanager
async def open_resources(
    name: str,
    settings: CommonSettings,
    clients: Clients,
    *,
    uses_broker: bool = True,
    clock: Clock | None = None,
    random: Random | None = None,
) -> AsyncIterator[Resources]:
    """The resources of the process `name`: BrokerResources if it `uses_broker`. A simulation has its own `clock` and
    `random`.

    Raises BrokerUnavailable, TopologyMismatch, and OSError if a server cannot be reached.
    """
    clock, random = clock or SystemClock(), random or SystemRandom()
    tracing = open_tracing(settings.telemetry, service=name)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.close)
        broker = None
        if uses_broker:
            broker = await stack.enter_async_context(clients.open_broker(settings.broker, name, clock, random))
        redis = await stack.enter_async_context(clients.open_redis(settings.redis))
        resources = Resources(
            redis=redis,
            wakeups=await stack.enter_async_context(open_wakeups(redis)),
            clock=clock,
            random=random,
            ids=Ids(clock, random, settings.tasks.message_id_key.get_secret_value().encode()),
            metrics=Metrics(),
            tracing=tracing,
        )
        yield resources if broker is None else _with_broker(resources, broker)


def _with_broker(resources: Resources, broker: Broker) -> BrokerResources:
    return BrokerResources(**{name: getattr(resources, name) for name in Resources.__slots__}, broker=broker)
