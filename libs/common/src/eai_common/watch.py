"""Keeps the gauges of the broker and of Redis true: how deep this process's queues are, what is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from eai_common.broker import Broker, BrokerUnavailable
from eai_common.store import Redis, pool_use
from eai_common.telemetry import Metrics

__all__ = ["watch_broker", "watch_pool"]

_EVERY = timedelta(seconds=5)


async def watch_broker(broker: Broker, queues: Sequence[str], metrics: Metrics, stop: asyncio.Event) -> None:
    """Look every five seconds, until `stop` and a cancellation. A depth that cannot be read keeps its last value."""
    while not stop.is_set():
        is_ready = broker.is_ready
        metrics.broker_connected.labels("connected").set(is_ready)
        metrics.broker_connected.labels("unavailable").set(not is_ready)
        depths = [await _note_depth(broker, queue, metrics) for queue in queues]
        if None not in depths:
            metrics.queue_depth_total.set(sum(depth for depth in depths if depth is not None))
        await asyncio.sleep(_EVERY.total_seconds())


async def _note_depth(broker: Broker, queue: str, metrics: Metrics) -> int | None:
    try:
        depth = await broker.depth(queue)
    except BrokerUnavailable:
        return None  # the connection's own gauge tells
    metrics.queue_depth.labels(queue).set(depth)
    return depth


def watch_pool(redis: Redis, metrics: Metrics) -> None:
    """Have the gauges of the connection pool read it each time that they are asked."""
    metrics.redis_connections.set_function(lambda: pool_use(redis).active + pool_use(redis).idle)
    metrics.redis_pool_active.set_function(lambda: pool_use(redis).active)
    metrics.redis_pool_max.set_function(lambda: pool_use(redis).most)
