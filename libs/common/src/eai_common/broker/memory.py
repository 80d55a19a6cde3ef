"""The port in memory: for `./eai up`, for tests and for the simulation, which also owns its clock.

It behaves like the quorum queues of `eai_common.broker.rabbitmq`; both pass the same conformance suite. Everything
happens in a fixed order, so that a simulation with the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from eai_common.broker import (
    AlreadySettled,
    BrokerUnavailable,
    Consumer,
    DeadLetterReason,
    Delivery,
    Headers,
    Outgoing,
    SettlementLost,
    Unroutable,
)
from eai_common.broker.delivery_iterator import DeliveryIterator
from eai_common.broker.headers import DELIVERY_LIMIT, DeadLetter, dead_letter_headers
from eai_common.clock import Clock
from eai_common.topology import Topology

__all__ = ["MemoryBroker", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the broker keeps it. None marks what its publisher did not set."""

    routing_key: str
    body: bytes
    message_id: str | None = None
    event: str | None = None
    timestamp: datetime | None = None
    headers: Headers = field(default_factory=dict)
    content_type: str | None = "application/json"
    redeliveries: int = 0

    @classmethod
    def of(cls, message: Outgoing) -> Message:
        """The message as the wire keeps it: time in milliseconds, and its own copy of the headers."""
        kept = message.timestamp.replace(microsecond=message.timestamp.microsecond // 1000 * 1000)
        return cls(
            message.routing_key,
            message.body,
            message.message_id,
            message.event,
            kept,
            dict(message.headers),
            message.content_type,
        )


class MemoryBroker:
    """The whole port, plus what a test inspects (`contents`, `unsettled`, `waiting`) and breaks (`go_down`).

    Used as `async with MemoryBroker(topology, clock) as broker`: the context owns the messages that wait in the ladder.
    """

    def __init__(self, topology: Topology, clock: Clock) -> None:
        self._topology = topology
        self._clock = clock
        self._queues = {name: _Queue(name) for name in sorted(topology.consumable_queues)}
        self._routes: dict[str, list[_Queue]] = {}
        for stage_queue in topology.stage_queues:
            for key in stage_queue.routing_keys:
                self._routes.setdefault(key, []).append(self._queues[stage_queue.name])
        self._group = asyncio.TaskGroup()
        self._in_ladder: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()
        self._up.set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._in_ladder:
            task.cancel()
        # The group gets only a cancellation, which may be its own (a waiting message that failed). Any other error of
        # the body would come out wrapped in an exception group.
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:
            await self._group.__aexit__(None, None, None)

    async def publish(self, message: Outgoing) -> None:
        await _yield_to_loop()
        self._check_up()
        queues = self._routes.get(message.routing_key)
        if not queues:
            raise Unroutable(f"no queue takes the routing key {message.routing_key!r}")
        full = next((queue.name for queue in queues if len(queue.ready) >= self._topology.max_length), None)
        if full is not None:
            raise BrokerUnavailable(f"queue {full} is full ({self._topology.max_length} messages)")
        for queue in queues:
            queue.add(Message.of(message))

    async def dead_letter(self, queue: str, message: Outgoing, reason: DeadLetterReason) -> None:
        await _yield_to_loop()
        self._check_up()
        self._check_has_dead_letters(queue)
        self.add_dead_letter(Message.of(message), message.headers, self._queue(queue), reason)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[Consumer]:
        subscription = _Subscription(self, self._queue(queue), prefetch)
        try:
            yield subscription
        finally:
            subscription.lose()

    async def depth(self, queue: str) -> int:
        self._check_up()
        return len(self._queue(queue).ready)

    @property
    def ladder(self) -> tuple[timedelta, ...]:
        return self._topology.ladder

    @property
    def is_ready(self) -> bool:
        return self._up.is_set()

    def contents(self, queue: str) -> tuple[Message, ...]:
        """The ready messages of a queue, first the next to be delivered."""
        return tuple(self._queue(queue).ready)

    def unsettled(self, queue: str) -> int:
        """How many messages of a queue its consumers hold unsettled."""
        return sum(len(subscription.held) for subscription in self._queue(queue).subscriptions)

    @property
    def waiting(self) -> int:
        """How many messages wait in the delay ladder."""
        return len(self._in_ladder)

    def put(self, queue: str, message: Message) -> None:
        """Add a message as a foreign publisher might have left it, without id or type for instance."""
        self._queue(queue).add(message)

    def go_down(self) -> None:
        """Simulate an outage: consumers lose what they hold, publishing fails. The broker keeps its messages."""
        self._up.clear()
        for queue in self._queues.values():
            for subscription in tuple(queue.subscriptions):
                subscription.lose()

    def come_back(self) -> None:
        """End the outage: consumers resume by themselves."""
        self._up.set()

    def _queue(self, name: str) -> _Queue:
        if name not in self._queues:
            raise ValueError(f"{name!r} is no queue of the topology: {', '.join(sorted(self._queues))}")
        return self._queues[name]

    async def wait_up(self) -> None:
        """Return once the broker can be reached."""
        await self._up.wait()

    def _check_up(self) -> None:
        if not self.is_ready:
            raise BrokerUnavailable("a test took the in-memory broker down")

    def delay(self, message: Message, headers: Headers, queue: _Queue, delay: timedelta) -> None:
        """Let a settled delivery's message wait in the ladder."""
        rung = self._topology.rung_for(delay)
        again = replace(message, headers=dict(headers), redeliveries=0)
        task = self._group.create_task(self._bring_back(again, queue, rung.delay), name=f"{rung.queue}/{queue.name}")
        self._in_ladder.add(task)
        task.add_done_callback(self._in_ladder.discard)

    async def _bring_back(self, message: Message, queue: _Queue, delay: timedelta) -> None:
        await asyncio.sleep(delay.total_seconds())
        queue.add(message)

    def _check_has_dead_letters(self, queue: str) -> None:
        if not any(queue == stage_queue.name for stage_queue in self._topology.stage_queues):
            raise ValueError(f"{queue!r} is no stage's queue, and has no dead letters")

    def add_dead_letter(self, message: Message, headers: Headers, queue: _Queue, reason: DeadLetterReason) -> None:
        """Move a settled delivery's message to the dead letters of its queue."""
        marked = dead_letter_headers(headers, DeadLetter(reason, queue.name, self._clock.now()))
        self._queues[f"{queue.name}.dlq"].add(replace(message, headers=marked, redeliveries=0))

    def give_back(self, queue: _Queue, messages: list[Message]) -> None:
        """Return messages to the head of the queue in their old order; those returned too often become dead letters."""
        for message in reversed(messages):
            again = replace(message, redeliveries=message.redeliveries + 1)
            if again.redeliveries > self._topology.delivery_limit and not _holds_dead_letters(queue):
                self.add_dead_letter(message, message.headers, queue, DELIVERY_LIMIT)
            else:
                queue.ready.appendleft(again)
        queue.dispatch()


class _Queue:
    """Ready messages, and the subscriptions that get them in rotation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Message] = deque()
        self.subscriptions: deque[_Subscription] = deque()

    def add(self, message: Message) -> None:
        self.ready.append(message)
        self.dispatch()

    def dispatch(self) -> None:
        """Hand out what is ready, one message to each subscription in turn, as far as their prefetch allows."""
        while self.ready and (subscription := self._next_with_room()) is not None:
            subscription.receive(self.ready.popleft())

    def _next_with_room(self) -> _Subscription | None:
        for _ in range(len(self.subscriptions)):
            subscription = self.subscriptions[0]
            self.subscriptions.rotate(-1)
            if subscription.has_room:
                return subscription
        return None


class _Subscription:
    """A consumer, and the source of its deliveries."""

    def __init__(self, broker: MemoryBroker, queue: _Queue, prefetch: int) -> None:
        self.broker = broker
        self.queue = queue
        self.held: dict[_Delivery, None] = {}  # a set that keeps the order
        self._changed = asyncio.Event()
        self._prefetch = prefetch
        self._prefetched: deque[_Delivery] = deque()

    def until(self, stop: asyncio.Event) -> AsyncIterator[Delivery]:
        return DeliveryIterator(self, stop)

    @property
    def has_room(self) -> bool:
        return len(self.held) < self._prefetch

    def receive(self, message: Message) -> None:
        delivery = _Delivery(self, message)
        self.held[delivery] = None
        self._prefetched.append(delivery)
        self._changed.set()

    def take(self) -> Delivery | None:
        return self._prefetched.popleft() if self._prefetched else None

    async def wait(self) -> None:
        await self.broker.wait_up()
        self._subscribe()
        self._changed.clear()
        if not self._prefetched:
            await self._changed.wait()

    async def hand_back(self) -> None:
        self._unsubscribe()
        self._return(list(self._prefetched))

    def lose(self) -> None:
        """End the subscription as a closed connection does: what it holds goes back, and cannot be settled any more."""
        self._unsubscribe()
        held = list(self.held)
        for delivery in held:
            delivery.is_lost = True
        self._return(held)
        self._changed.set()

    def _subscribe(self) -> None:
        if self not in self.queue.subscriptions:
            self.queue.subscriptions.append(self)
            self.queue.dispatch()

    def _unsubscribe(self) -> None:
        if self in self.queue.subscriptions:
            self.queue.subscriptions.remove(self)

    def _return(self, deliveries: list[_Delivery]) -> None:
        for delivery in deliveries:
            del self.held[delivery]
        self._prefetched.clear()
        self.broker.give_back(self.queue, [delivery.message for delivery in deliveries])


class _Delivery:
    """One message in the hands of one consumer."""

    def __init__(self, subscription: _Subscription, message: Message) -> None:
        self.message = message
        self.is_lost = False
        self._subscription = subscription
        self._is_settled = False

    @property
    def queue(self) -> str:
        return self._subscription.queue.name

    @property
    def routing_key(self) -> str:
        return self.message.routing_key

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def message_id(self) -> str | None:
        return self.message.message_id

    @property
    def event(self) -> str | None:
        return self.message.event

    @property
    def headers(self) -> Mapping[str, str | int]:
        return self.message.headers

    @property
    def timestamp(self) -> datetime | None:
        return self.message.timestamp

    @property
    def redeliveries(self) -> int:
        return self.message.redeliveries

    async def ack(self) -> None:
        await _yield_to_loop()
        self._settle()
        self._subscription.queue.dispatch()

    async def requeue(self) -> None:
        await _yield_to_loop()
        self._settle()
        self._subscription.broker.give_back(self._subscription.queue, [self.message])

    async def retry_after(self, delay: timedelta, headers: Headers) -> None:
        self._check_can_move()
        await _yield_to_loop()
        self._settle()
        self._subscription.broker.delay(self.message, headers, self._subscription.queue, delay)
        self._subscription.queue.dispatch()

    async def dead_letter(self, reason: DeadLetterReason, headers: Headers) -> None:
        self._check_can_move()
        await _yield_to_loop()
        self._settle()
        self._subscription.broker.add_dead_letter(self.message, headers, self._subscription.queue, reason)
        self._subscription.queue.dispatch()

    def _settle(self) -> None:
        if self._is_settled:
            raise AlreadySettled(f"{self.queue}: {self.message_id} was settled before")
        if self.is_lost:
            raise SettlementLost(f"{self.queue}: {self.message_id} will be delivered again, its consumer is gone")
        self._is_settled = True
        del self._subscription.held[self]

    def _check_can_move(self) -> None:
        if _holds_dead_letters(self._subscription.queue):
            raise ValueError(f"{self.queue} holds dead letters: publish the message anew and ack this one")


def _holds_dead_letters(queue: _Queue) -> bool:
    return queue.name.endswith(".dlq")


async def _yield_to_loop() -> None:
    """Let other tasks run before the effect, as a broker on a wire would. Cancelled here, nothing has happened."""
    await asyncio.sleep(0)
