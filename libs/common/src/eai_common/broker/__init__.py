"""The broker port: what a stage needs from a message broker, and the errors that it can raise.

Stages import this module only. The adapters, `eai_common.broker.rabbitmq` and `eai_common.broker.memory`, are imported
by wiring. Both pass the same conformance suite, in `eai_common.broker.testing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from eai_common.errors import Permanent, Unavailable

__all__ = [
    "AlreadySettled",
    "Broker",
    "BrokerUnavailable",
    "Consumer",
    "DeadLetterReason",
    "Delivery",
    "Headers",
    "Outgoing",
    "Publisher",
    "SettlementLost",
    "TopologyMismatch",
    "Unconfirmed",
    "Unroutable",
]

Headers = Mapping[str, str | int]
"""Application headers, of the types that RabbitMQ and the memory broker both preserve exactly."""


class BrokerUnavailable(Unavailable):
    """The broker did not confirm before the deadline, is unreachable or blocked, or refused (a full queue)."""

    error_code = "BROKER_UNAVAILABLE"


class Unconfirmed(BrokerUnavailable):
    """The message was sent and no confirm came: the broker may or may not have it."""


class Unroutable(Permanent):
    """No queue takes this routing key. Only a wrong topology causes that, so it is an error and never a silent drop."""

    error_code = "UNROUTABLE"


class TopologyMismatch(Exception):
    """A queue or exchange exists with other arguments. The text names it, the difference and what to do."""


class SettlementLost(Exception):
    """The delivery's channel is gone, so it cannot be settled: the broker will deliver it again."""


class AlreadySettled(Exception):
    """The delivery was settled before. That is a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to the broker. `event` is the AMQP `type` property: the name of the event in the body."""

    routing_key: str
    body: bytes
    message_id: str
    event: str
    timestamp: datetime
    headers: Headers = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class DeadLetterReason:
    """Why a delivery is dead-lettered; kept in the dead letter's headers for whoever replays it."""

    error_code: str
    error: str  # for the operator: no secret, no user's number
    stage: str
    evidence: str = ""  # what an outside service answered, redacted


class Delivery(Protocol):
    """One message from the broker. Settle it exactly once; the broker delivers an unsettled one again.

    A second settlement raises AlreadySettled. One that raised BrokerUnavailable does not count.
    """

    @property
    def queue(self) -> str:
        """The queue it was consumed from."""

    @property
    def routing_key(self) -> str:
        """The key that it was first published with, also after a wait in the ladder and as a dead letter."""

    @property
    def body(self) -> bytes: ...

    @property
    def message_id(self) -> str | None:
        """The AMQP property, None when the publisher set none."""

    @property
    def event(self) -> str | None:
        """The AMQP `type` property, None when the publisher set none."""

    @property
    def headers(self) -> Headers:
        """Ours only, without the broker's own (x-death, x-first-death-*, x-delivery-count)."""

    @property
    def timestamp(self) -> datetime | None:
        """When it was published, to the millisecond; None when the publisher did not say."""

    @property
    def redeliveries(self) -> int:
        """How often it was delivered before without being settled (a consumer died, or handed it back). 0 at first.

        Classic queues have only a flag: 0 or 1.
        """

    async def ack(self) -> None:
        """Remove it from the queue: it is done. Raises SettlementLost."""

    async def requeue(self) -> None:
        """Hand it back unchanged, for another consumer; used while draining. Raises SettlementLost."""

    async def retry_after(self, delay: timedelta, headers: Headers) -> None:
        """Let it wait in the delay ladder, then deliver it to this queue again, with `headers` instead of its own.

        It waits on the first rung that is not shorter than `delay`, or on the longest. The copy in the ladder is
        confirmed before the original is acked. Raises BrokerUnavailable (the original is then still unsettled),
        SettlementLost, and ValueError for a dead letter, which must be published again instead.
        """

    async def dead_letter(self, reason: DeadLetterReason, headers: Headers) -> None:
        """Move it to `<queue>.dlq` with `headers` and the reason; confirmed before the original is acked.

        Raises BrokerUnavailable (the original is then still unsettled), SettlementLost, and ValueError for a dead
        letter.
        """


class Consumer(Protocol):
    """An open subscription to one queue, at most `prefetch` deliveries unsettled."""

    def until(self, stop: asyncio.Event) -> AsyncIterator[Delivery]:
        """Deliveries as they come, until `stop` is set; then what was prefetched and not yet yielded is handed back.

        Deliveries go on after a lost connection, once the broker is back. After `stop`, settling is possible until the
        consumer is closed.
        """


class Publisher(Protocol):
    """The narrow part of the port that most code needs."""

    async def publish(self, message: Outgoing) -> None:
        """Return with the publisher confirm of a persistent, mandatory message.

        Safe to call concurrently; confirms are then pipelined. Raises Unroutable or BrokerUnavailable. Of the latter,
        Unconfirmed says that the broker may have the message anyway.
        """


class Broker(Publisher, Protocol):
    """The whole port."""

    def consume(self, queue: str, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe to a queue of the topology; dead-letter queues included. Raises ValueError for any other.

        Leaving the context returns unsettled deliveries to the broker.
        """

    async def dead_letter(self, queue: str, message: Outgoing, reason: DeadLetterReason) -> None:
        """Put a message among the dead letters of a stage's queue, as if a delivery of it had been given up.

        Returns once that is confirmed. Raises BrokerUnavailable; ValueError for a queue that has no dead letters.
        """

    async def depth(self, queue: str) -> int:
        """How many messages are ready in a queue of the topology, unsettled ones not counted.

        Raises BrokerUnavailable, and ValueError for any other queue.
        """

    @property
    def ladder(self) -> tuple[timedelta, ...]:
        """The rungs of the delay ladder, shortest first."""

    @property
    def is_ready(self) -> bool:
        """Whether it is connected, and not blocked by a memory or disk alarm."""
