"""Keeps the gauges of the broker true: how deep this process's queues are, and whether it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from eai_common.broker import Broker, BrokerUnavailable
from eai_common.clock import Clock
from eai_common.telemetry import Metrics

__all__ = ["watch_broker"]

_EVERY = timedelta(seconds=5)


async def watch_broker(
    broker: Broker, queues: Sequence[str], metrics: Metrics, clock: Clock, stop: asyncio.Event
) -> None:
    """Look every five seconds, until `stop` and a cancellation. A depth that cannot be read keeps its last value."""
    while not stop.is_set():
        is_ready = broker.is_ready
        metrics.broker_connected.labels("connected").set(is_ready)
        metrics.broker_connected.labels("unavailable").set(not is_ready)
        for queue in queues:
            await _note_depth(broker, queue, metrics)
        await clock.sleep(_EVERY)


async def _note_depth(broker: Broker, queue: str, metrics: Metrics) -> None:
    try:
        metrics.queue_depth.labels(queue).set(await broker.depth(queue))
    except BrokerUnavailable:
        return  # the connection's own gauge tells
