"""Keeps the gauges of the broker and of Redis current: queue depths, connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from eai_common.broker import Broker, BrokerUnavailable
from eai_common.store import RedisClient, pool_use
from eai_common.telemetry import Metrics

__all__ = ["bind_pool_gauges", "record_broker_gauges"]

_INTERVAL = timedelta(seconds=5)


async def record_broker_gauges(broker: Broker, queues: Sequence[str], metrics: Metrics, stop: asyncio.Event) -> None:
    """Record every five seconds, until `stop` or cancelled. A depth that cannot be read keeps its last value."""
    while not stop.is_set():
        is_ready = broker.is_ready
        metrics.broker_connected.labels("connected").set(is_ready)
        metrics.broker_connected.labels("unavailable").set(not is_ready)
        depths = [await _record_depth(broker, queue, metrics) for queue in queues]
        if None not in depths:
            metrics.queue_depth_total.set(sum(depth for depth in depths if depth is not None))
        await asyncio.sleep(_INTERVAL.total_seconds())


async def _record_depth(broker: Broker, queue: str, metrics: Metrics) -> int | None:
    try:
        depth = await broker.depth(queue)
    except BrokerUnavailable:
        return None  # the connection's own gauge shows it
    metrics.queue_depth.labels(queue).set(depth)
    return depth


def bind_pool_gauges(redis: RedisClient, metrics: Metrics) -> None:
    """Let the gauges of the connection pool read it whenever the metrics are scraped."""
    metrics.redis_connections.set_function(lambda: pool_use(redis).active + pool_use(redis).idle)
    metrics.redis_pool_active.set_function(lambda: pool_use(redis).active)
    metrics.redis_pool_max.set_function(lambda: pool_use(redis).most)
