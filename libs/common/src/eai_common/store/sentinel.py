"""A Redis whose primary may change: sentinels know which server it is, and each new connection asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from eai_common.settings.sentinel import SentinelAddress

__all__ = ["open_primary_pool"]


class _PrimaryPool(SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the primary. Whoever finds none free waits for one, as with a single server."""


@asynccontextmanager
async def open_primary_pool(
    address: SentinelAddress, **options: Any
) -> AsyncIterator[redis.asyncio.BlockingConnectionPool]:
    """A pool whose connections go to the primary of that name; nothing is asked before it is used.

    `options` are those of a blocking pool. The sentinels are asked with the same time limits, and without a password.
    """
    limits = {name: value for name, value in options.items() if name.startswith(("socket_", "driver_info"))}
    # One that does not answer is not asked again: the next one is, and then the whole connection is tried again.
    once = Retry(NoBackoff(), retries=0)
    asked = {**limits, "retry": once}
    async with Sentinel(address.sentinels, sentinel_kwargs=asked) as sentinel:  # type: ignore[no-untyped-call]
        place = {"db": address.database, "ssl": address.with_tls}
        yield _PrimaryPool(address.name, sentinel, **place, **options)  # type: ignore[no-untyped-call]
