"""Opens the Redis client, and turns its failures into the one error that the runtime knows what to do with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from eai_common.errors import Unavailable
from eai_common.settings.groups import RedisSettings
from eai_common.store.packing import pack_in_c
from eai_common.store.sentinel import open_primary_pool

__all__ = ["PoolUse", "Redis", "StoreUnavailable", "open_memory_redis", "open_redis", "pool_use", "store_errors"]

Redis = redis.asyncio.Redis
"""Answers in bytes."""

_PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    OSError,
)


_NO_REPLICAS = "NOREPLICAS"  # what a primary answers that is cut off, with `min-replicas-to-write`


class StoreUnavailable(Unavailable):
    """Redis is unreachable, loading, full or failing over."""

    error_code = "STORE_UNAVAILABLE"


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise StoreUnavailable for what passes by itself; a wrong command or type is our bug and goes through."""
    try:
        yield
    except _PASSING as error:
        raise StoreUnavailable(f"Redis: {type(error).__name__}") from error
    except ResponseError as error:
        if not str(error).startswith(_NO_REPLICAS):
            raise
        raise StoreUnavailable(f"Redis: {_NO_REPLICAS}") from error


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client for REDIS_URL. Connects when first used, so a Redis that is down does not stop a start."""
    timeout_s, password = settings.timeout.total_seconds(), settings.password.get_secret_value()
    options = {
        "max_connections": settings.pool_size + 1,  # one for the subscription to wake-ups, which is not given back
        "timeout": timeout_s,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.25, base=0.02), retries=2),
        "health_check_interval": 30,
        **({"password": password} if password else {}),
    }
    async with AsyncExitStack() as stack:
        if settings.sentinels is None:
            pool = redis.asyncio.BlockingConnectionPool.from_url(settings.url.get_secret_value(), **options)
        else:
            pool = await stack.enter_async_context(open_primary_pool(settings.sentinels, **options))
        pack_in_c(pool)
        client = redis.asyncio.Redis.from_pool(pool)
        stack.push_async_callback(client.aclose)
        yield client


@asynccontextmanager
async def open_memory_redis() -> AsyncIterator[Redis]:
    """A Redis inside this process, for `./eai up` without REDIS_URL: same commands and scripts, nothing kept."""
    import fakeredis  # imported here: production images need not carry it

    # Its connections are objects in memory: running out of them at 100 would only be a fault that a server has not.
    client = fakeredis.FakeAsyncRedis(max_connections=2**31)
    try:
        yield client
    finally:
        await client.aclose()


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How many connections are in use, how many wait, and how many there may be."""

    active: int
    idle: int
    most: int


def pool_use(redis: Redis) -> PoolUse:
    """The client's connections now. A connection that Redis closed meanwhile is counted until it is used."""
    pool = redis.connection_pool
    (idle, _), (active, _) = pool.get_connection_count()
    return PoolUse(active, idle, pool.max_connections)
