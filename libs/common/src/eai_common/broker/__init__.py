"""The broker port: what a stage needs of a message broker, and the errors it can meet.

Stages import this module only. The adapters, `eai_common.broker.rabbitmq` and `eai_common.broker.memory`, are imported
by wiring; both pass the one conformance suite in `eai_common.broker.testing`.
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
"""Application headers: what RabbitMQ and the memory broker both keep exactly."""


class BrokerUnavailable(Unavailable):
    """The broker did not confirm before the deadline, is unreachable or blocked, or refused (a full queue)."""

    error_code = "BROKER_UNAVAILABLE"


class Unconfirmed(BrokerUnavailable):
    """The message was sent and no answer came: the broker may have it, or may not."""


class Unroutable(Permanent):
    """No queue takes this routing key. Only a wrong topology does that, so it is an error and never a silent drop."""

    error_code = "UNROUTABLE"


class TopologyMismatch(Exception):
    """A queue or exchange exists with other arguments. The text names it, what was found and what to do."""


class SettlementLost(Exception):
    """The delivery's channel is gone, so it cannot be settled: the broker will deliver it again."""


class AlreadySettled(Exception):
    """The delivery was settled before: a mistake of the caller, who must decide once what becomes of it."""


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
    """Why a delivery is given up; kept in the dead letter's headers for whoever replays it."""

    error_code: str
    error: str  # for the operator: no secret, no user's number
    stage: str
    evidence: str = ""  # what an outside service answered, masked


class Delivery(Protocol):
    """One message handed to us. It must be settled exactly once; unsettled, it comes again.

    Settling it a second time raises AlreadySettled. A settlement that raised BrokerUnavailable was none.
    """

    @property
    def queue(self) -> str:
        """The queue it was consumed from."""

    @property
    def routing_key(self) -> str:
        """The key it was first published with, also after a wait in the ladder and as a dead letter."""

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
        """Ours only: the broker's own (x-death, x-first-death-*, x-delivery-count) are left out."""

    @property
    def timestamp(self) -> datetime | None:
        """When it was published, to the millisecond; None when the publisher did not say."""

    @property
    def redeliveries(self) -> int:
        """How often it was handed out before without being settled (a consumer died, or handed it back). 0 at first.

        Classic queues only know whether it was: 0 or 1.
        """

    async def ack(self) -> None:
        """Done: the broker forgets it. Raises SettlementLost."""

    async def requeue(self) -> None:
        """Hand it back untouched, for another consumer; used while draining. Raises SettlementLost."""

    async def retry_after(self, delay: timedelta, headers: Headers) -> None:
        """Let it wait outside the consumers, then deliver it to this queue again, with `headers` for the old ones.

        The waiting copy is confirmed before the original is acked. It waits at least `delay`, rounded up to a rung
        of the ladder; longer than the longest rung counts as the longest. Raises BrokerUnavailable (the original is
        then still unsettled) or SettlementLost; ValueError for a dead letter, which is published anew instead.
        """

    async def dead_letter(self, reason: DeadLetterReason, headers: Headers) -> None:
        """Move it to `<queue>.dlq` with `headers` and the reason; confirmed before the original is acked.

        Raises BrokerUnavailable (the original is then still unsettled) or SettlementLost; ValueError for a dead
        letter.
        """


class Consumer(Protocol):
    """An open subscription to one queue, at most `prefetch` deliveries unsettled."""

    def until(self, stop: asyncio.Event) -> AsyncIterator[Delivery]:
        """Deliveries as they come, until `stop` is set; what was prefetched and not yet yielded is handed back then.

        Survives a lost connection: deliveries go on once the broker is back. Settling stays possible after `stop`
        until the consumer is closed.
        """


class Publisher(Protocol):
    """The narrow part of the port that most code needs."""

    async def publish(self, message: Outgoing) -> None:
        """Return once the broker has taken responsibility (publisher confirm, persistent, mandatory).

        Safe to call concurrently; confirms are then pipelined. Raises Unroutable or BrokerUnavailable; of the latter,
        Unconfirmed when the broker may have the message all the same.
        """


class Broker(Publisher, Protocol):
    """The whole port."""

    def consume(self, queue: str, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe to a queue of the topology, a dead-letter queue too; ValueError for any other.

        Leaving the context gives unsettled deliveries back to the broker.
        """

    async def depth(self, queue: str) -> int:
        """How many messages are ready in a queue of the topology, unsettled ones not counted.

        Raises BrokerUnavailable; ValueError for any other queue.
        """

    @property
    def ladder(self) -> tuple[timedelta, ...]:
        """The waits that `retry_after` knows, shortest first."""

    @property
    def is_ready(self) -> bool:
        """Connected, and not blocked by a memory or disk alarm."""
