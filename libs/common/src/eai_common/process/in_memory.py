"""Clients of servers that live in this process, for `./eai up` and for tests. No service's process imports this."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from random import Random

from eai_common.broker import Broker
from eai_common.broker.memory import MemoryBroker
from eai_common.clock import Clock
from eai_common.process.resources import REAL, Clients
from eai_common.settings import BrokerSettings, RedisSettings
from eai_common.store import RedisClient, open_memory_redis

__all__ = ["REAL_IF_CONFIGURED", "in_memory"]


def in_memory(*, broker: Broker | None = None, redis: RedisClient | None = None) -> Clients:
    """An in-memory broker and an in-process Redis; those that are given are used instead and stay open."""

    def open_broker(
        settings: BrokerSettings, name: str, clock: Clock, random: Random
    ) -> AbstractAsyncContextManager[Broker]:
        return MemoryBroker(settings.topology, clock) if broker is None else nullcontext(broker)

    def open_redis(settings: RedisSettings) -> AbstractAsyncContextManager[RedisClient]:
        return open_memory_redis() if redis is None else nullcontext(redis)

    return Clients(open_broker, open_redis)


_IN_MEMORY = in_memory()


def _open_broker(
    settings: BrokerSettings, name: str, clock: Clock, random: Random
) -> AbstractAsyncContextManager[Broker]:
    clients = REAL if settings.url.get_secret_value() else _IN_MEMORY
    return clients.open_broker(settings, name, clock, random)


def _open_redis(settings: RedisSettings) -> AbstractAsyncContextManager[RedisClient]:
    return (REAL if settings.url.get_secret_value() else _IN_MEMORY).open_redis(settings)


REAL_IF_CONFIGURED = Clients(_open_broker, _open_redis)
"""Each server by itself: the real one if the settings have its address, else one in memory."""
