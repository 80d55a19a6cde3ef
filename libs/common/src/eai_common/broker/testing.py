"""The conformance suite of the broker port. Both adapters inherit `BrokerContract` whole.

An adapter's test class adds the fixture `open_broker`, an `OpenBroker`. A flag of the class, with its reason,
names what the adapter cannot do.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eai_common.broker import (
    AlreadySettled,
    Broker,
    BrokerUnavailable,
    DeadLetterReason,
    Delivery,
    Headers,
    Outgoing,
    SettlementLost,
    Unroutable,
)
from eai_common.broker.headers import DELIVERY_LIMIT, DeadLetter, read_dead_letter, without_dead_letter
from eai_common.clock import Clock, SystemClock
from eai_common.registry import bindings
from eai_common.testing import eventually, run_ready
from eai_common.topology import Topology

__all__ = ["BrokerContract", "Inbox", "OpenBroker", "listening", "outgoing"]

OpenBroker = Callable[[Topology], AbstractAsyncContextManager[Broker]]

PUBLISHED_AT = datetime(2026, 1, 1, 10, 30, 0, 123456, tzinfo=UTC)
REASON = DeadLetterReason("UNINTELLIGIBLE", "não há fala no áudio", stage="transcriber")
SHORT, LONG = timedelta(seconds=0.2), timedelta(seconds=1)


def outgoing(body: bytes = b"{}", *, routing_key: str = "message.text", headers: Headers | None = None) -> Outgoing:
    """A message with an id of its own."""
    message_id = str(uuid.uuid4())
    return Outgoing(routing_key, body, message_id, event=routing_key, timestamp=PUBLISHED_AT, headers=headers or {})


class Inbox:
    """What a consumer gets, one by one."""

    def __init__(self, deliveries: AsyncIterator[Delivery], stop: asyncio.Event) -> None:
        self._deliveries = deliveries
        self.stop = stop

    async def next(self, *, within_s: float = 10) -> Delivery:
        """The next delivery. Raises TimeoutError, or StopAsyncIteration after `stop`."""
        async with asyncio.timeout(within_s):
            return await anext(self._deliveries)

    async def take(self, count: int) -> list[Delivery]:
        """The next `count` deliveries, unsettled."""
        return [await self.next() for _ in range(count)]

    async def is_silent(self, *, for_s: float = 0.15) -> bool:
        """Whether nothing comes for a while."""
        try:
            await self.next(within_s=for_s)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def listening(broker: Broker, queue: str, *, prefetch: int = 10) -> AsyncIterator[Inbox]:
    """A consumer that is read by hand."""
    stop = asyncio.Event()
    async with broker.consume(queue, prefetch=prefetch) as consumer:
        yield Inbox(consumer.until(stop), stop)


class BrokerContract:
    """What every adapter of the port does. Queue names in short: see `Topology.queue_of`."""

    counts_redeliveries: bool = True
    """False for classic queues, which carry a flag and no count."""
    enforces_delivery_limit: bool = True
    """False for classic queues, which have no such limit."""

    @pytest.fixture()
    def topology(self) -> Topology:
        """A topology with names that no other test uses, and a ladder short enough for a test."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        return Topology(exchange=name, prefix=name, ladder=(SHORT, LONG))

    @pytest.fixture()
    async def broker(self, open_broker: OpenBroker, topology: Topology) -> AsyncIterator[Broker]:
        async with open_broker(topology) as broker:
            yield broker

    @pytest.fixture()
    def clock(self) -> Clock:
        """The one that the brokers have."""
        return SystemClock()

    @pytest.fixture()
    def router(self, topology: Topology) -> str:
        return topology.queue_of("agent-router")

    # Publishing

    async def test_a_fresh_broker_is_ready(self, broker: Broker) -> None:
        assert broker.is_ready

    async def test_a_published_message_is_in_its_queue_once_publish_returns(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        assert await broker.depth(router) == 1

    async def test_every_event_reaches_its_consumer_and_no_other(self, broker: Broker, topology: Topology) -> None:
        for event in sorted({event for events in bindings().values() for event in events}):
            await broker.publish(outgoing(routing_key=event))
        depths = {consumer: await broker.depth(topology.queue_of(consumer)) for consumer in bindings()}
        assert depths == {consumer: len(events) for consumer, events in bindings().items()}
        for consumer, events in bindings().items():
            async with listening(broker, topology.queue_of(consumer)) as inbox:
                assert [delivery.event for delivery in await inbox.take(len(events))] == sorted(events)

    async def test_a_routing_key_that_no_queue_takes_is_an_error(self, broker: Broker) -> None:
        with pytest.raises(Unroutable, match=r"message\.nobody"):
            await broker.publish(outgoing(routing_key="message.nobody"))

    async def test_an_unroutable_message_does_not_disturb_those_around_it(self, broker: Broker, router: str) -> None:
        routable = [broker.publish(outgoing()) for _ in range(20)]
        unroutable = [broker.publish(outgoing(routing_key="message.nobody")) for _ in range(20)]
        woven = [publish for pair in zip(routable, unroutable, strict=True) for publish in pair]
        outcomes = await asyncio.gather(*woven, return_exceptions=True)
        assert (outcomes[0::2], {type(error) for error in outcomes[1::2]}) == ([None] * 20, {Unroutable})

    async def test_the_same_message_id_in_flight_twice_is_unroutable_twice(self, broker: Broker) -> None:
        message = outgoing(routing_key="message.nobody")
        outcomes = await asyncio.gather(broker.publish(message), broker.publish(message), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unroutable, Unroutable]

    async def test_five_hundred_concurrent_publishes_all_arrive(self, broker: Broker, router: str) -> None:
        messages = [outgoing() for _ in range(500)]
        await asyncio.gather(*map(broker.publish, messages))
        async with listening(broker, router, prefetch=100) as inbox:
            arrived: Counter[str | None] = Counter()
            for _ in messages:
                delivery = await inbox.next()
                arrived[delivery.message_id] += 1
                await delivery.ack()
        assert arrived == Counter(message.message_id for message in messages)

    async def test_a_cancelled_publish_leaves_a_working_broker(self, broker: Broker, router: str) -> None:
        publishes = [asyncio.create_task(broker.publish(outgoing(b"cancelled"))) for _ in range(50)]
        for turns, publish in enumerate(publishes):
            await run_ready(turns % 5)
            publish.cancel()
        await asyncio.gather(*publishes, return_exceptions=True)
        await broker.publish(outgoing(b"after"))
        async with listening(broker, router, prefetch=100) as inbox:
            while (await inbox.next()).body != b"after":
                pass

    async def test_a_full_queue_refuses_and_takes_again_once_there_is_room(
        self, open_broker: OpenBroker, topology: Topology, router: str
    ) -> None:
        async with open_broker(_with(topology, max_length=5)) as broker:
            with pytest.raises(BrokerUnavailable):  # noqa: PT012 - a quorum queue's limit is soft: it takes a few more
                for _ in range(100):
                    await broker.publish(outgoing())
            async with listening(broker, router) as inbox:
                draining = asyncio.create_task(_ack_all(inbox))
                await eventually(lambda: _is_taken(broker))
                inbox.stop.set()
                await draining

    # What arrives

    async def test_a_delivery_is_what_was_published(self, broker: Broker, router: str) -> None:
        headers: Headers = {
            "traceparent": "00-abc-def-01",
            "x-nome": "João ☕",
            "vazio": "",
            "attempt": -3,
            "big": 2**62,
        }
        message = outgoing(b'{"message":"ol\xc3\xa1"}', headers=headers)
        await broker.publish(message)
        async with listening(broker, router) as inbox:
            delivery = await inbox.next()
            assert _seen(delivery) == {
                "queue": router,
                "routing_key": "message.text",
                "body": message.body,
                "message_id": message.message_id,
                "event": "message.text",
                "headers": headers,
                "timestamp": PUBLISHED_AT.replace(microsecond=123000),
                "redeliveries": 0,
            }

    async def test_a_body_of_any_size_arrives_whole(self, broker: Broker, router: str) -> None:
        bodies = [b"", b"x", bytes(range(256)) * (2**20 // 256)]
        for body in bodies:
            await broker.publish(outgoing(body))
        async with listening(broker, router) as inbox:
            assert [delivery.body for delivery in await inbox.take(3)] == bodies

    async def test_messages_arrive_in_the_order_of_their_publishing(self, broker: Broker, router: str) -> None:
        bodies = [str(number).encode() for number in range(100)]
        for body in bodies:
            await broker.publish(outgoing(body))
        async with listening(broker, router, prefetch=100) as inbox:
            assert [delivery.body for delivery in await inbox.take(100)] == bodies

    # Consuming and settling

    async def test_at_most_prefetch_deliveries_are_unsettled(self, broker: Broker, router: str) -> None:
        await asyncio.gather(*(broker.publish(outgoing()) for _ in range(5)))
        async with listening(broker, router, prefetch=3) as inbox:
            first, *_ = await inbox.take(3)
            assert await inbox.is_silent()
            await first.ack()
            await inbox.next()
            assert await inbox.is_silent()

    async def test_an_acked_delivery_does_not_come_again(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            await (await inbox.next()).ack()
        assert await broker.depth(router) == 0
        async with listening(broker, router) as inbox:
            assert await inbox.is_silent()

    async def test_a_requeued_delivery_comes_again_first_and_says_so(self, broker: Broker, router: str) -> None:
        for body in (b"first", b"second"):
            await broker.publish(outgoing(body))
        async with listening(broker, router, prefetch=1) as inbox:
            await (await inbox.next()).requeue()
            again = await inbox.next()
            assert (again.body, again.redeliveries) == (b"first", 1)

    async def test_what_a_dead_consumer_held_goes_to_another(self, broker: Broker, router: str) -> None:
        message = outgoing()
        await broker.publish(message)
        seen = []
        for _ in range(3):
            async with listening(broker, router) as inbox:
                seen.append((await inbox.next()).redeliveries)
        assert seen == ([0, 1, 2] if self.counts_redeliveries else [0, 1, 1])

    async def test_a_message_that_kills_its_consumers_ends_as_a_dead_letter(
        self, open_broker: OpenBroker, topology: Topology, router: str
    ) -> None:
        if not self.enforces_delivery_limit:
            pytest.skip("classic queues have no delivery limit")
        async with open_broker(_with(topology, delivery_limit=2)) as broker:
            poison = outgoing(headers={"attempt": 1})
            await broker.publish(poison)
            for _ in range(3):
                async with listening(broker, router) as inbox:
                    await inbox.next()
            async with listening(broker, f"{router}.dlq") as inbox:
                dead = await inbox.next()
                found = read_dead_letter(dead.headers)
                assert found is not None
                assert (found.reason, found.queue) == (DELIVERY_LIMIT, router)
                assert (dead.message_id, dead.routing_key) == (poison.message_id, "message.text")
                assert without_dead_letter(dead.headers) == {"attempt": 1}

    async def test_settling_twice_is_refused_and_changes_nothing(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            delivery, other = await inbox.take(2)
            await delivery.ack()
            for settle in _ways_to_settle(delivery):
                with pytest.raises(AlreadySettled):
                    await settle()
            await other.ack()  # the channel has survived
        assert (await broker.depth(router), await broker.depth(f"{router}.dlq")) == (0, 0)

    async def test_a_delivery_cannot_be_settled_once_its_consumer_is_closed(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            delivery = await inbox.next()
        for settle in _ways_to_settle(delivery):
            with pytest.raises(SettlementLost):
                await settle()
        await eventually(lambda: _depth_is(broker, router, 1))
        assert await broker.depth(f"{router}.dlq") == 0

    async def test_several_consumers_share_a_queue(self, broker: Broker, router: str) -> None:
        async with listening(broker, router, prefetch=1) as one, listening(broker, router, prefetch=1) as two:
            reading = [asyncio.create_task(inbox.next()) for inbox in (one, two)]
            for body in (b"a", b"b"):
                await broker.publish(outgoing(body))
            assert {(await delivery).body for delivery in reading} == {b"a", b"b"}

    async def test_a_timeout_around_the_next_delivery_does_not_end_the_consumer(
        self, broker: Broker, router: str
    ) -> None:
        async with listening(broker, router) as inbox:
            assert await inbox.is_silent()
            await broker.publish(outgoing())
            await inbox.next()

    async def test_a_queue_outside_the_topology_is_refused(self, broker: Broker) -> None:
        with pytest.raises(ValueError, match="eai-nothing"):
            await broker.depth("eai-nothing")
        with pytest.raises(ValueError, match="eai-nothing"):
            async with listening(broker, "eai-nothing"):
                pass

    # Retrying

    async def test_a_retry_comes_back_after_its_rung_and_not_before(self, broker: Broker, router: str) -> None:
        rungs = {timedelta(): SHORT, SHORT / 2: SHORT, SHORT * 1.5: LONG, timedelta(days=1): LONG}
        for _ in rungs:
            await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            due_s: dict[str | None, float] = {}
            for delay, rung in rungs.items():
                delivery = await inbox.next()
                due_s[delivery.message_id] = asyncio.get_running_loop().time() + rung.total_seconds()
                await delivery.retry_after(delay, {})
            late_s = []
            for _ in rungs:
                message_id = (await _acked(inbox)).message_id
                late_s.append(asyncio.get_running_loop().time() - due_s[message_id])
        assert min(late_s) >= 0
        assert max(late_s) < 3

    async def test_a_retry_comes_back_to_its_own_queue_alone_with_new_headers_and_all_else_kept(
        self, broker: Broker, topology: Topology, router: str
    ) -> None:
        message = outgoing(b"body", routing_key="message.transcribed", headers={"attempt": 1, "old": "yes"})
        await broker.publish(message)
        async with listening(broker, router) as inbox:
            first = await inbox.next()
            await first.retry_after(SHORT, {"attempt": 2, "motivo": "João ☕"})
            again = await inbox.next()
            assert _seen(again) == {**_seen(first), "headers": {"attempt": 2, "motivo": "João ☕"}, "redeliveries": 0}
            others = [queue.name for queue in topology.stage_queues if queue.name != router]
            assert [await broker.depth(queue) for queue in others] == [0, 0, 0]

    async def test_a_retry_can_be_retried_and_dead_lettered_and_keeps_its_routing_key(
        self, broker: Broker, router: str
    ) -> None:
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            for attempt in range(3):
                await (await inbox.next()).retry_after(SHORT, {"attempt": attempt})
            await (await inbox.next()).dead_letter(REASON, {})
        async with listening(broker, f"{router}.dlq") as inbox:
            assert (await inbox.next()).routing_key == "message.text"

    async def test_waiting_retries_cost_no_prefetch_slot(self, broker: Broker, router: str) -> None:
        await asyncio.gather(*(broker.publish(outgoing(b"waits")) for _ in range(20)))
        await broker.publish(outgoing(b"passes"))
        async with listening(broker, router, prefetch=1) as inbox:
            while (delivery := await inbox.next()).body == b"waits":
                await delivery.retry_after(LONG, {})
            await delivery.ack()
            assert {(await _acked(inbox)).body for _ in range(20)} == {b"waits"}

    # Dead letters

    async def test_a_dead_letter_names_its_reason_and_keeps_its_message(
        self, broker: Broker, router: str, clock: Clock
    ) -> None:
        message = outgoing(b"body", headers={"old": "yes"})
        before = clock.now()
        await broker.publish(message)
        async with listening(broker, router) as inbox:
            delivery = await inbox.next()
            await delivery.dead_letter(REASON, {"attempt": 6})
        async with listening(broker, f"{router}.dlq") as inbox:
            dead = await inbox.next()
            found = read_dead_letter(dead.headers)
            assert found is not None
            assert abs(found.at - before) < timedelta(minutes=1)
            assert found == DeadLetter(REASON, router, found.at)
            assert without_dead_letter(dead.headers) == {"attempt": 6}
            unchanged = {name: value for name, value in _seen(delivery).items() if name not in ("queue", "headers")}
            assert _seen(dead).items() >= unchanged.items()

    async def test_a_message_can_become_a_dead_letter_without_a_delivery(self, broker: Broker, router: str) -> None:
        message = outgoing(b"given up", headers={"attempt": 6})
        await broker.dead_letter(router, message, REASON)
        async with listening(broker, f"{router}.dlq") as dead_letters:
            dead = await dead_letters.next()
            found = read_dead_letter(dead.headers)
            assert found is not None
            assert (found.reason, found.queue) == (REASON, router)
            told = (dead.body, dead.routing_key, dead.message_id, dead.event, without_dead_letter(dead.headers))
            assert told == (message.body, message.routing_key, message.message_id, message.event, message.headers)
            await dead.ack()
        with pytest.raises(ValueError, match=r"\.dlq"):
            await broker.dead_letter(f"{router}.dlq", message, REASON)

    async def test_a_dead_letter_can_be_replayed(self, broker: Broker, router: str) -> None:
        message = outgoing(b"body", headers={"attempt": 6})
        await broker.publish(message)
        async with listening(broker, router) as inbox, listening(broker, f"{router}.dlq") as dead_letters:
            await (await inbox.next()).dead_letter(REASON, message.headers)
            dead = await dead_letters.next()
            assert dead.message_id is not None
            assert dead.event is not None
            assert dead.timestamp is not None
            headers = without_dead_letter(dead.headers)
            await broker.publish(
                Outgoing(dead.routing_key, dead.body, dead.message_id, dead.event, dead.timestamp, headers)
            )
            await dead.ack()
            assert _seen(await inbox.next())["headers"] == {"attempt": 6}

    async def test_a_dead_letter_can_only_be_acked_or_requeued(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            await (await inbox.next()).dead_letter(REASON, {})
        async with listening(broker, f"{router}.dlq") as inbox:
            dead = await inbox.next()
            with pytest.raises(ValueError, match="publish"):
                await dead.retry_after(SHORT, {})
            with pytest.raises(ValueError, match="publish"):
                await dead.dead_letter(REASON, {})
            await dead.requeue()
            await (await inbox.next()).ack()
        assert await broker.depth(f"{router}.dlq") == 0

    # Draining

    async def test_stop_wakes_a_waiting_consumer_at_once(self, broker: Broker, router: str) -> None:
        async with listening(broker, router) as inbox:
            assert await inbox.is_silent()
            waiting = asyncio.create_task(_ends(inbox))
            await run_ready()
            inbox.stop.set()
            assert await waiting

    async def test_stop_hands_back_what_was_prefetched_and_leaves_the_rest_to_be_settled(
        self, broker: Broker, router: str
    ) -> None:
        for number in range(5):
            await broker.publish(outgoing(str(number).encode()))
        async with listening(broker, router) as inbox:
            in_flight = await inbox.next()
            inbox.stop.set()
            assert await _ends(inbox)
            await eventually(lambda: _depth_is(broker, router, 4))
            await in_flight.ack()
        async with listening(broker, router) as inbox:
            assert [delivery.body for delivery in await inbox.take(4)] == [b"1", b"2", b"3", b"4"]

    async def test_all_ways_of_settling_work_while_draining(self, broker: Broker, router: str) -> None:
        await asyncio.gather(*(broker.publish(outgoing()) for _ in range(4)))
        async with listening(broker, router) as inbox:
            acked, requeued, retried, dead = await inbox.take(4)
            inbox.stop.set()
            assert await _ends(inbox)
            await acked.ack()
            await requeued.requeue()
            await retried.retry_after(SHORT, {})
            await dead.dead_letter(REASON, {})
        await eventually(lambda: _depth_is(broker, router, 2))
        assert await broker.depth(f"{router}.dlq") == 1

    async def test_nothing_is_yielded_when_stop_was_set_before(self, broker: Broker, router: str) -> None:
        await broker.publish(outgoing())
        async with listening(broker, router) as inbox:
            inbox.stop.set()
            assert await _ends(inbox)
        assert await broker.depth(router) == 1


def _ways_to_settle(delivery: Delivery) -> list[Callable[[], Awaitable[None]]]:
    return [
        delivery.ack,
        delivery.requeue,
        lambda: delivery.retry_after(SHORT, {}),
        lambda: delivery.dead_letter(REASON, {}),
    ]


def _seen(delivery: Delivery) -> dict[str, Any]:
    names = ("queue", "routing_key", "body", "message_id", "event", "headers", "timestamp", "redeliveries")
    return {name: getattr(delivery, name) for name in names}


def _with(topology: Topology, *, max_length: int | None = None, delivery_limit: int | None = None) -> Topology:
    return Topology(
        exchange=topology.exchange,
        prefix=topology.prefix,
        queue_type=topology.queue_type,
        ladder=topology.ladder,
        max_length=max_length or topology.max_length,
        delivery_limit=delivery_limit or topology.delivery_limit,
    )


async def _acked(inbox: Inbox) -> Delivery:
    delivery = await inbox.next()
    await delivery.ack()
    return delivery


async def _depth_is(broker: Broker, queue: str, expected: int) -> bool:
    return await broker.depth(queue) == expected


async def _ack_all(inbox: Inbox) -> None:
    with suppress(StopAsyncIteration):
        while True:
            await _acked(inbox)


async def _is_taken(broker: Broker) -> bool:
    try:
        await broker.publish(outgoing())
    except BrokerUnavailable:
        return False
    return True


async def _ends(inbox: Inbox) -> bool:
    try:
        await inbox.next(within_s=5)
    except StopAsyncIteration:
        return True
    return False
