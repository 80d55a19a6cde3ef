"""Refuses messages while the pipeline is full. The state is refreshed in the background, so no request waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import chain
from typing import Protocol

from eai_common.broker import BrokerUnavailable
from eai_common.messages import MessageAudio, MessageText, MessageType
from eai_common.registry import list_stages_passed
from eai_common.telemetry import Metrics, get_logger
from eai_common.topology import Topology

__all__ = ["Backpressure", "Overloaded", "QueueDepths"]

log = get_logger("eai.ingress")

_STAGES: Mapping[MessageType, tuple[str, ...]] = {
    "text": list_stages_passed(MessageText.name),
    "audio": list_stages_passed(MessageAudio.name),
}
"""The stages that a message of each type passes."""
_RELIEF = 0.8  # of the limit, so that a queue near the limit does not change the answer with each refresh


class QueueDepths(Protocol):
    """What this needs of the broker."""

    async def depth(self, queue: str) -> int:
        """Ready messages. Raises BrokerUnavailable."""

    @property
    def is_ready(self) -> bool:
        """Connected and not blocked."""


class Overloaded(BrokerUnavailable):
    """The broker is unreachable, or a queue is over its limit. Nothing was written or published."""

    error_code = "OVERLOADED"

    def __init__(self, text: str, *, retry_after: timedelta) -> None:
        super().__init__(text, delay=retry_after)


class Backpressure:
    """The broker's state at the last `refresh`. `limit` is a number of messages in one queue."""

    def __init__(self, broker: QueueDepths, topology: Topology, *, limit: int, metrics: Metrics) -> None:
        self._broker = broker
        self._queues = {stage: topology.queue_of(stage) for stage in sorted(set(chain(*_STAGES.values())))}
        self._limit = limit
        self._metrics = metrics
        self._depths: dict[str, int] = {}
        self._full: set[str] = set()
        self._was_ready = True

    def check(self, message_type: MessageType) -> None:
        """Raises Overloaded. If the connection was lost since the last refresh, the publisher waits for it instead."""
        if not self._was_ready and not self._broker.is_ready:
            raise Overloaded("the broker is unreachable or blocked", retry_after=timedelta(seconds=5))
        if self._full:
            for stage in _STAGES[message_type]:
                if stage in self._full:
                    raise Overloaded(f"the queue of {stage} is full", retry_after=timedelta(seconds=10))

    def waiting(self) -> dict[MessageType, int]:
        """How many messages are queued before a new one of each type."""
        return {kind: sum(self._depths.get(stage, 0) for stage in stages) for kind, stages in _STAGES.items()}

    async def refresh(self) -> None:
        """Read the depths. A depth that cannot be read keeps its value; the state of the connection says enough."""
        self._was_ready = self._broker.is_ready
        self._metrics.broker_connected.labels("connected").set(self._was_ready)
        self._metrics.broker_connected.labels("unavailable").set(not self._was_ready)
        for stage, queue in self._queues.items():
            try:
                self._record(stage, queue, await self._broker.depth(queue))
            except BrokerUnavailable:
                return

    def _record(self, stage: str, queue: str, depth: int) -> None:
        self._depths[stage] = depth
        self._metrics.queue_depth.labels(queue).set(depth)
        if stage not in self._full and depth >= self._limit:
            self._full.add(stage)
            log.warning("backpressure_began", stage=stage, depth=depth, limit=self._limit)
        elif stage in self._full and depth <= self._limit * _RELIEF:
            self._full.remove(stage)
            log.info("backpressure_ended", stage=stage, depth=depth)
