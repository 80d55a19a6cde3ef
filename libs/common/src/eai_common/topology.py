"""Exchanges, queues, bindings, the delay ladder and the dead-letter queues, as data. Adapters apply it.

    exchange (topic) ──routing key──▶ queue of a stage ──gives up──▶ <exchange>.dlx (direct) ──▶ <queue>.dlq
                                            │ retry_after                       key: the queue's name
                                            ▼
    <exchange>.retry.<seconds> (fanout) ──▶ eai.delay.<seconds> ──TTL──▶ <exchange>.retry.return (direct) ──▶ the queue

A message enters the ladder with its queue's name as routing key and keeps that key, so that it returns to the queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from eai_common.registry import bindings

__all__ = ["LADDER", "PERMIT", "Rung", "StageQueue", "Topology"]

PERMIT = "inbox.permit"
"""Routes one more delivery of a user's message, whichever event it is, to the stage that works on the user's inbox."""

LADDER: tuple[timedelta, ...] = tuple(
    timedelta(seconds=s) for s in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600)
)
"""The waits of the delay queues. A wait that no rung fits goes over several (`eai_common.stage.delivery.next_hop`)."""


@dataclass(frozen=True, slots=True)
class StageQueue:
    """A consumer's durable queue."""

    stage: str
    name: str
    routing_keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """The queue and its dead-letter queue."""
        return self.name, self.dead_letter_queue

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True)
class Rung:
    """One delay queue. All its messages wait equally long, so the head is always the next to leave."""

    queue: str
    exchange: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole topology, from the settings.

    `delivery_limit` is the broker's own protection against a message that kills its consumers. The runtime gives up
    well before that, so that the user gets an answer.
    """

    exchange: str = "eai_agent_exchange"
    prefix: str = "eai"
    queue_type: str = "quorum"
    delivery_limit: int = 50
    max_length: int = 1_000_000
    ladder: tuple[timedelta, ...] = field(default=LADDER)

    @property
    def dead_letter_exchange(self) -> str:
        return f"{self.exchange}.dlx"

    @property
    def return_exchange(self) -> str:
        return f"{self.exchange}.retry.return"

    @property
    def stage_queues(self) -> tuple[StageQueue, ...]:
        return tuple(StageQueue(consumer, self.queue_of(consumer), keys) for consumer, keys in bindings().items())

    @property
    def consumable_queues(self) -> frozenset[str]:
        """The queues that can be consumed: those of the stages and their dead letters."""
        return frozenset(name for queue in self.stage_queues for name in queue.names)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return tuple(self._rung(delay) for delay in self.ladder)

    def queue_of(self, consumer: str) -> str:
        """The queue of a stage that consumes. Raises KeyError for any other name."""
        if consumer not in bindings():
            raise KeyError(consumer)
        return f"{self.prefix}.{consumer}"

    def rung_for(self, delay: timedelta) -> Rung:
        """The first rung that is not shorter than `delay`, else the longest."""
        return self._rung(next((rung for rung in self.ladder if rung >= delay), self.ladder[-1]))

    def _rung(self, delay: timedelta) -> Rung:
        seconds = f"{delay.total_seconds():g}"
        return Rung(f"{self.prefix}.delay.{seconds}", f"{self.exchange}.retry.{seconds}", delay)
