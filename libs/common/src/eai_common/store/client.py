"""The one client of Redis, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, overload

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.driver_info import DriverInfo

from eai_common.background import run_alongside
from eai_common.settings.groups import RedisSettings
from eai_common.store.commands import Command, Reply, Request, command
from eai_common.store.connection import SharedConnection
from eai_common.store.sentinel import open_primary_pool

if TYPE_CHECKING:
    from fakeredis import FakeServer

__all__ = [
    "PoolUse",
    "Redis",
    "RedisClient",
    "open_client",
    "open_memory_redis",
    "open_redis",
    "pool_use",
]

T = TypeVar("T")
_DRIVER_INFO = DriverInfo()  # once: each connection would look for its version in files, and block the loop
_MEMORY_TIMEOUT = timedelta(seconds=2)

Redis = redis.asyncio.Redis
"""redis-py's client, which answers in bytes."""


def _ignore(_: Sequence[Reply]) -> None:
    """For commands whose replies say nothing."""


class RedisClient:
    """Runs requests, those of all callers on one connection. `driver` is redis-py's client: for subscriptions only."""

    def __init__(self, driver: Redis, connection: SharedConnection, timeout: timedelta) -> None:
        self.driver = driver
        self._connection = connection
        self._timeout_s = timeout.total_seconds()

    @overload
    def request(self, *commands: Command) -> Request[None]: ...
    @overload
    def request(self, *commands: Command, decode: Callable[[Sequence[Reply]], T]) -> Request[T]: ...
    def request(self, *commands: Command, decode: Callable[[Sequence[Reply]], object] = _ignore) -> Request[object]:
        """A request that this client runs once it is awaited. `decode` gets the commands' replies, in order."""
        return Request(self, commands, decode)

    def known(self, value: T) -> Request[T]:
        """A request that sends nothing: for the part of several that is not needed this time."""
        return Request(self, (), lambda _: value)

    def with_timeout(self, timeout: timedelta) -> RedisClient:
        """The same client, whose callers wait for at most so long."""
        return RedisClient(self.driver, self._connection, timeout)

    def ping(self) -> Request[None]:
        """Whether Redis answers."""
        return self.request(command("PING"))

    async def run(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """The commands' replies, in order. Raises StoreUnavailable, else the first error reply."""
        return await self._connection.run(commands, self._timeout_s)


@asynccontextmanager
async def open_client(driver: Redis, timeout: timedelta) -> AsyncIterator[RedisClient]:
    """A client on the connections of redis-py's, as long as the context is open. `timeout` is the longest wait."""
    connection = SharedConnection(driver.connection_pool, timeout)
    async with run_alongside({"redis": connection.serve()}):
        try:
            yield RedisClient(driver, connection, timeout)
        finally:
            connection.close()


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[RedisClient]:
    """A client for REDIS_URL. Connects when first used, so a Redis that is down does not stop a start."""
    timeout_s, password = settings.timeout.total_seconds(), settings.password.get_secret_value()
    options = {
        "max_connections": settings.pool_size + 1,  # one for the subscription to wake-ups, which is not given back
        "timeout": timeout_s,
        "socket_timeout": None,  # the client judges silence
        "socket_connect_timeout": timeout_s,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.25, base=0.02), retries=2),
        "health_check_interval": 30,
        "protocol": 2,
        "driver_info": _DRIVER_INFO,
        **({"password": password} if password else {}),
    }
    async with AsyncExitStack() as stack:
        if settings.sentinels is None:
            pool = redis.asyncio.BlockingConnectionPool.from_url(settings.url.get_secret_value(), **options)
        else:
            pool = await stack.enter_async_context(open_primary_pool(settings.sentinels, **options))
        driver = redis.asyncio.Redis.from_pool(pool)
        stack.push_async_callback(driver.aclose)
        yield await stack.enter_async_context(open_client(driver, settings.timeout))


@asynccontextmanager
async def open_memory_redis(server: FakeServer | None = None) -> AsyncIterator[RedisClient]:
    """A Redis inside this process, for `./eai up` without REDIS_URL: same commands and scripts, nothing kept.

    Clients of one `server` share what it holds; a test can take it away (`server.connected = False`).
    """
    import fakeredis  # imported here: production images need not carry it

    async with fakeredis.FakeAsyncRedis(server=server, protocol=2, max_connections=2**31) as driver, open_client(
        driver, _MEMORY_TIMEOUT
    ) as client:
        yield client


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How many connections are in use, how many wait, and how many there may be."""

    active: int
    idle: int
    most: int


def pool_use(redis: RedisClient) -> PoolUse:
    """The client's connections now. A connection that Redis closed meanwhile is counted until it is used."""
    pool = redis.driver.connection_pool
    (idle, _), (active, _) = pool.get_connection_count()
    return PoolUse(active, idle, pool.max_connections)
