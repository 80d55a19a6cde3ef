"""Whether the pipeline can take one more message: looked at in the background, so that no request waits to know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from eai_common.broker import BrokerUnavailable
from eai_common.messages import MessageType
from eai_common.telemetry import Metrics, get_logger
from eai_common.topology import Topology

__all__ = ["Depths", "Overloaded", "Pressure"]

log = get_logger("eai.ingress")

_WAYS: Mapping[MessageType, tuple[str, ...]] = {
    "text": ("agent-router", "formatter"),
    "audio": ("transcriber", "agent-router", "formatter"),
}
"""The queues that a message of each type goes through."""
_RELIEF = 0.8  # of the limit: a queue that swings about it must not open and close the door with each look


class Depths(Protocol):
    """What is asked of the broker."""

    async def depth(self, queue: str) -> int:
        """Ready messages. Raises BrokerUnavailable."""

    @property
    def is_ready(self) -> bool:
        """Connected and not blocked."""


class Overloaded(BrokerUnavailable):
    """Not now: the broker has been out of reach, or a queue is over its limit. Nothing was written or published."""

    error_code = "OVERLOADED"

    def __init__(self, text: str, *, retry_after: timedelta) -> None:
        super().__init__(text, delay=retry_after)


class Pressure:
    """What the last look at the broker found. `limit` is of messages in one queue."""

    def __init__(self, broker: Depths, topology: Topology, *, limit: int, metrics: Metrics) -> None:
        self._broker = broker
        self._queues = {stage: topology.queue_of(stage) for stage in sorted({s for way in _WAYS.values() for s in way})}
        self._limit = limit
        self._metrics = metrics
        self._depths: dict[str, int] = {}
        self._full: set[str] = set()
        self._was_ready = True

    def check(self, message_type: MessageType) -> None:
        """Raises Overloaded. A connection that was lost since the last look is left to the publisher, which waits."""
        if not self._was_ready and not self._broker.is_ready:
            raise Overloaded("the broker is unreachable or blocked", retry_after=timedelta(seconds=5))
        if self._full:
            for stage in _WAYS[message_type]:
                if stage in self._full:
                    raise Overloaded(f"the queue of {stage} is full", retry_after=timedelta(seconds=10))

    def waiting(self) -> dict[MessageType, int]:
        """How many messages stand before a new one of each type."""
        return {kind: sum(self._depths.get(stage, 0) for stage in way) for kind, way in _WAYS.items()}

    async def look(self) -> None:
        """Read the depths. One that cannot be read keeps its last value: the connection's own state tells enough."""
        self._was_ready = self._broker.is_ready
        self._metrics.broker_connected.labels("connected").set(self._was_ready)
        self._metrics.broker_connected.labels("unavailable").set(not self._was_ready)
        for stage, queue in self._queues.items():
            try:
                self._note(stage, queue, await self._broker.depth(queue))
            except BrokerUnavailable:
                return

    def _note(self, stage: str, queue: str, depth: int) -> None:
        self._depths[stage] = depth
        self._metrics.queue_depth.labels(queue).set(depth)
        if stage not in self._full and depth >= self._limit:
            self._full.add(stage)
            log.warning("backpressure_began", stage=stage, depth=depth, limit=self._limit)
        elif stage in self._full and depth <= self._limit * _RELIEF:
            self._full.remove(stage)
            log.info("backpressure_ended", stage=stage, depth=depth)
