"""The port on RabbitMQ 3.10 to 4.x.

One connection publishes, another consumes. On a memory or disk alarm the broker stops reading from connections that
publish (source: RabbitMQ, "Memory and Disk Alarms"), and acks on the same connection would not get through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import TypeGuard

from aiormq import Connection, DeliveryError, PublishError, spec
from aiormq.abc import AbstractChannel, DeliveredMessage

from eai_common.background import run_alongside
from eai_common.broker import (
    AlreadySettled,
    BrokerUnavailable,
    Consumer,
    DeadLetterReason,
    Delivery,
    Headers,
    Outgoing,
    SettlementLost,
    Unconfirmed,
    Unroutable,
)
from eai_common.broker import rabbitmq_wire as wire
from eai_common.broker.delivery_iterator import DeliveryIterator
from eai_common.broker.headers import DeadLetter, dead_letter_headers
from eai_common.broker.rabbitmq_link import LOST, Link, backoff_s, on_wire
from eai_common.broker.rabbitmq_topology import apply
from eai_common.clock import Clock
from eai_common.telemetry import get_logger
from eai_common.topology import Topology

__all__ = ["RabbitBroker", "RabbitSettings", "open_rabbitmq"]

log = get_logger("eai.broker")

_RPC_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """Where the broker is and how long to wait for it."""

    url: str = field(repr=False)  # amqp:// or amqps://, with the password
    topology: Topology
    connection_name: str = "eai"  # shown by the broker's own tools
    publish_timeout: timedelta = timedelta(seconds=5)
    connect_timeout: timedelta = timedelta(seconds=30)  # for the first connection, all attempts together
    heartbeat: timedelta = timedelta(seconds=15)


@asynccontextmanager
async def open_rabbitmq(settings: RabbitSettings, clock: Clock, random: Random) -> AsyncIterator[RabbitBroker]:
    """Connect and apply the topology; reconnect and apply it again whenever the connection is lost.

    Raises BrokerUnavailable if the first connection takes longer than `connect_timeout`, TopologyMismatch if the broker
    has another topology (also later, into the body of the context, after a reconnect to a changed broker), and
    ValueError for a malformed address.
    """
    name = settings.connection_name
    link_to = partial(Link, settings.url, heartbeat=settings.heartbeat, random=random)
    publishing = link_to(name=f"{name} publisher", prepare=partial(apply, settings.topology))
    consuming = link_to(name=f"{name} consumer")
    try:
        for link in (publishing, consuming):
            await link.open(within=settings.connect_timeout)
        async with run_alongside({link.name: link.keep_connected() for link in (publishing, consuming)}):
            yield RabbitBroker(settings, publishing, consuming, clock, random)
    finally:
        await asyncio.gather(publishing.close(), consuming.close())


class RabbitBroker:
    """The whole port. Made by `open_rabbitmq`."""

    def __init__(
        self, settings: RabbitSettings, publishing: Link, consuming: Link, clock: Clock, random: Random
    ) -> None:
        self._clock = clock
        self._random = random
        self._topology = settings.topology
        self._timeout_s = settings.publish_timeout.total_seconds()
        self._publishing = publishing
        self._consuming = consuming
        self._publisher = _Publisher(publishing, self._timeout_s)

    async def publish(self, message: Outgoing) -> None:
        await self._publisher.send(
            self._topology.exchange, message.routing_key, message.body, wire.make_properties(message)
        )

    async def dead_letter(self, queue: str, message: Outgoing, reason: DeadLetterReason) -> None:
        if not any(queue == stage_queue.name for stage_queue in self._topology.stage_queues):
            raise ValueError(f"{queue!r} is no stage's queue, and has no dead letters")
        marked = dead_letter_headers(message.headers, DeadLetter(reason, queue, self._clock.now()))
        properties = wire.make_properties(replace(message, headers=marked), copy_of=message.routing_key)
        await self._publisher.send(self._topology.dead_letter_exchange, queue, message.body, properties)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[Consumer]:
        self._check(queue)
        mover = _Mover(queue, self._topology, self._publisher, self._clock)
        consumer = _Consumer(self._consuming, mover, prefetch, self._random)
        try:
            yield consumer
        finally:
            await consumer.close()

    async def depth(self, queue: str) -> int:
        self._check(queue)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._count(queue)
        except LOST as error:
            raise BrokerUnavailable(f"cannot read the depth of queue {queue}: {type(error).__name__}") from error

    @property
    def ladder(self) -> tuple[timedelta, ...]:
        return self._topology.ladder

    @property
    def is_ready(self) -> bool:
        return self._publishing.is_up and self._consuming.is_up and not self._publishing.is_blocked

    def _check(self, queue: str) -> None:
        known = self._topology.consumable_queues
        if queue not in known:
            raise ValueError(f"{queue!r} is no queue of the topology: {', '.join(sorted(known))}")

    async def _count(self, queue: str) -> int:
        connection = await self._consuming.connection()  # the publisher's may be blocked
        channel = await on_wire(connection.channel(publisher_confirms=False))
        try:
            return (await on_wire(channel.queue_declare(queue, passive=True))).message_count or 0
        finally:
            await on_wire(channel.close())


class _Publisher:
    """Confirmed publishing, pipelined over one channel that is reopened when it is lost."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._in_flight: dict[str, asyncio.Event] = {}

    async def send(self, exchange: str, routing_key: str, body: bytes, properties: spec.Basic.Properties) -> None:
        """Return with the broker's confirm. Raises Unroutable; BrokerUnavailable, before its deadline."""
        if self._link.is_blocked:
            raise BrokerUnavailable("the broker accepts no messages: it has a memory or disk alarm")
        failure: type[BrokerUnavailable] = BrokerUnavailable
        release = _nothing
        try:
            async with asyncio.timeout_at(self._deadline_s()):
                release = await self._reserve(properties.message_id)
                channel = await self._open_channel()
                failure = Unconfirmed
                await _publish(channel, exchange, routing_key, body, properties)
        except PublishError as error:
            raise Unroutable(f"no queue takes the routing key {routing_key!r} of exchange {exchange!r}") from error
        except DeliveryError as error:
            raise BrokerUnavailable(f"the broker refused a message for {routing_key!r}: a queue is full") from error
        except LOST as error:
            reason = "timed out" if isinstance(error, TimeoutError) else "the connection was lost"
            raise failure(f"no publisher confirm for {routing_key!r}: {reason}") from error
        finally:
            release()

    def _deadline_s(self) -> float:
        """In the loop's time, counted from the loss of the connection: publishes wait out a short outage only."""
        now_s = asyncio.get_running_loop().time()
        return (self._link.down_since_s or now_s) + self._timeout_s

    async def _reserve(self, message_id: str | None) -> Callable[[], None]:
        """Keep two publishes of one message id apart; calling the result lets the next one go.

        aiormq knows a returned message by its id only: of two in flight, the first would count as delivered.
        """
        if message_id is None:  # aiormq makes one up
            return _nothing
        while (other := self._in_flight.get(message_id)) is not None:
            await other.wait()
        self._in_flight[message_id] = asyncio.Event()
        return partial(self._release, message_id)

    def _release(self, message_id: str) -> None:
        self._in_flight.pop(message_id).set()

    async def _open_channel(self) -> AbstractChannel:
        connection = await self._link.connection()
        if _is_of(self._channel, connection):
            return self._channel
        async with self._opening:
            if not _is_of(self._channel, connection):
                self._channel = await on_wire(connection.channel(publisher_confirms=True, on_return_raises=True))
            return self._channel


class _Mover:
    """Moves deliveries of one queue to the delay ladder or to the dead letters."""

    def __init__(self, queue: str, topology: Topology, publisher: _Publisher, clock: Clock) -> None:
        self._clock = clock
        self.queue = queue
        self._topology = topology
        self._publisher = publisher
        self._can_move = any(queue == stage_queue.name for stage_queue in topology.stage_queues)

    async def delay(self, message: DeliveredMessage, delay: timedelta, headers: Headers) -> None:
        self._check()
        rung = self._topology.rung_for(delay)
        await self._publisher.send(rung.exchange, self.queue, message.body, wire.copy_properties(message, headers))

    async def dead_letter(self, message: DeliveredMessage, reason: DeadLetterReason, headers: Headers) -> None:
        self._check()
        marked = dead_letter_headers(headers, DeadLetter(reason, self.queue, self._clock.now()))
        exchange = self._topology.dead_letter_exchange
        await self._publisher.send(exchange, self.queue, message.body, wire.copy_properties(message, marked))

    def _check(self) -> None:
        if not self._can_move:
            raise ValueError(f"{self.queue} holds dead letters: publish the message anew and ack this one")


class _Consumer:
    """A consumer: the source of its deliveries, over one subscription after the other."""

    def __init__(self, link: Link, mover: _Mover, prefetch: int, random: Random) -> None:
        self._link = link
        self._mover = mover
        self._prefetch = prefetch
        self._random = random
        self._subscription: _Subscription | None = None

    def until(self, stop: asyncio.Event) -> AsyncIterator[Delivery]:
        return DeliveryIterator(self, stop)

    def take(self) -> Delivery | None:
        return self._subscription.take() if self._subscription is not None else None

    async def wait(self) -> None:
        if self._subscription is None or not self._subscription.is_live:
            self._subscription = await self._subscribe()
        await self._subscription.wait()

    async def hand_back(self) -> None:
        if self._subscription is not None:
            await self._subscription.hand_back()

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.close()

    async def _subscribe(self) -> _Subscription:
        await self.close()  # after a cancel by the broker the channel is still open, and holds unsettled deliveries
        for pause_s in backoff_s(self._random):
            connection = await self._link.connection()
            try:
                async with asyncio.timeout(_RPC_WITHIN_S):
                    return await _Subscription.open(connection, self._mover, self._prefetch)
            except LOST as error:
                log.warning("broker_subscribe_failed", queue=self._mover.queue, error=f"{error!r}")
            await asyncio.sleep(pause_s)
        raise AssertionError("backoff has no end")


class _Subscription:
    """One channel that consumes one queue. What it prefetched is lost with it."""

    def __init__(self, channel: AbstractChannel, mover: _Mover) -> None:
        self._channel = channel
        self._mover = mover
        self._tag: str | None = None
        self._prefetched: deque[_Delivery] = deque()
        self._changed = asyncio.Event()
        channel.closing.add_done_callback(lambda _: self._changed.set())
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled)

    @classmethod
    async def open(cls, connection: Connection, mover: _Mover, prefetch: int) -> _Subscription:
        channel = await on_wire(connection.channel(publisher_confirms=False))
        subscription = cls(channel, mover)
        try:
            await on_wire(channel.basic_qos(prefetch_count=prefetch))
            consuming = await on_wire(channel.basic_consume(mover.queue, subscription._receive))
        except BaseException:
            await subscription.close()
            raise
        subscription._tag = consuming.consumer_tag
        return subscription

    @property
    def is_live(self) -> bool:
        """Whether deliveries still come: the channel is open and the subscription not ended."""
        return self._tag is not None and not self._channel.is_closed

    def take(self) -> _Delivery | None:
        if not self.is_live:
            return None  # what it prefetched cannot be settled any more, and the broker delivers it elsewhere
        return self._prefetched.popleft() if self._prefetched else None

    async def wait(self) -> None:
        """Return when there is something to take, or the subscription has ended."""
        self._changed.clear()
        if self.is_live and not self._prefetched:
            await self._changed.wait()

    async def hand_back(self) -> None:
        if not self.is_live or self._tag is None:
            return
        with suppress(*LOST, SettlementLost):  # the broker then takes the deliveries back by itself
            await on_wire(self._channel.basic_cancel(self._tag, timeout=_RPC_WITHIN_S))
            self._tag = None
            while self._prefetched:
                await self.nack(self._prefetched.popleft().message)

    async def ack(self, message: DeliveredMessage) -> None:
        with _settlement():
            # Without waiting for the socket to drain: that says nothing about the broker, and costs an iteration.
            await on_wire(self._channel.basic_ack(_tag_of(message), wait=False))

    async def nack(self, message: DeliveredMessage) -> None:
        """Return the delivery to the head of the queue."""
        with _settlement():
            await on_wire(self._channel.basic_nack(_tag_of(message), requeue=True, wait=False))

    def check_open(self) -> None:
        """Raises SettlementLost if the channel is closed."""
        if self._channel.is_closed:
            raise SettlementLost(f"{self._mover.queue}: the channel is gone, the broker will deliver it again")

    async def close(self) -> None:
        """Give everything unsettled back to the broker."""
        self._tag = None
        with suppress(*LOST):
            async with asyncio.timeout(_RPC_WITHIN_S):
                await on_wire(self._channel.close())

    async def _receive(self, message: DeliveredMessage) -> None:
        self._prefetched.append(_Delivery(message, self, self._mover))
        self._changed.set()

    def _on_cancelled(self, _: spec.Basic.Cancel) -> None:
        log.warning("broker_cancelled_consumer", queue=self._mover.queue)  # the queue was deleted or moved
        self._tag = None
        self._changed.set()


class _Delivery:
    """One message in the hands of one consumer."""

    def __init__(self, message: DeliveredMessage, subscription: _Subscription, mover: _Mover) -> None:
        self.message = message
        self._subscription = subscription
        self._mover = mover
        self._is_settled = False
        self._headers: dict[str, str | int] | None = None

    @property
    def queue(self) -> str:
        return self._mover.queue

    @property
    def routing_key(self) -> str:
        return wire.first_routing_key(self.message)

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def message_id(self) -> str | None:
        return wire.message_id(self.message)

    @property
    def event(self) -> str | None:
        return wire.event(self.message)

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = wire.headers(self.message)
        return self._headers

    @property
    def timestamp(self) -> datetime | None:
        return wire.timestamp(self.message)

    @property
    def redeliveries(self) -> int:
        return wire.redeliveries(self.message)

    async def ack(self) -> None:
        with self._settling():
            await self._subscription.ack(self.message)

    async def requeue(self) -> None:
        with self._settling():
            await self._subscription.nack(self.message)

    async def retry_after(self, delay: timedelta, headers: Headers) -> None:
        # Confirm before ack: the other way round, a crash here would lose the message.
        with self._settling():
            await self._mover.delay(self.message, delay, headers)
            await self._subscription.ack(self.message)

    async def dead_letter(self, reason: DeadLetterReason, headers: Headers) -> None:
        with self._settling():
            await self._mover.dead_letter(self.message, reason, headers)
            await self._subscription.ack(self.message)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Allow one settlement, on an open channel: the broker closes a channel on a second ack, with all it holds."""
        if self._is_settled:
            raise AlreadySettled(f"{self.queue}: {self.message_id} was settled before")
        self._subscription.check_open()
        self._is_settled = True
        try:
            yield
        except BaseException:
            self._is_settled = False
            raise


@contextmanager
def _settlement() -> Iterator[None]:
    try:
        yield
    except LOST as error:
        raise SettlementLost("the channel was lost before the settlement, the broker will deliver it again") from error


async def _publish(
    channel: AbstractChannel, exchange: str, routing_key: str, body: bytes, properties: spec.Basic.Properties
) -> None:
    # Without waiting for the socket to drain: the confirm says more, and aiormq would hold the channel's lock
    # meanwhile, so that publishes went out one by one.
    await on_wire(
        channel.basic_publish(  # type: ignore[call-arg]  # the abstract class leaves `wait` out
            body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True, wait=False
        )
    )


def _nothing() -> None:
    return None


def _tag_of(message: DeliveredMessage) -> int:
    assert message.delivery_tag is not None
    return message.delivery_tag


def _is_of(channel: AbstractChannel | None, connection: Connection) -> TypeGuard[AbstractChannel]:
    return channel is not None and channel.connection is connection and not channel.is_closed
