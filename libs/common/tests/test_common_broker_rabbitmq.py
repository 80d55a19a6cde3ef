"""The RabbitMQ adapter against a real broker: the whole contract, and what can go wrong with a server."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiormq
import pytest
from structlog.testing import capture_logs

from eai_common.broker import Broker, BrokerUnavailable, SettlementLost, TopologyMismatch, Unconfirmed, Unroutable
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.broker.rabbitmq_topology import Exchange, Queue, declarations
from eai_common.broker.testing import BrokerContract, OpenBroker, listening, outgoing
from eai_common.clock import SystemClock
from eai_common.testing import RANDOM, eventually
from eai_common.topology import Topology

Open = Callable[..., AbstractAsyncContextManager[Broker]]


async def delete(url: str, topology: Topology) -> None:
    """Leave nothing of the topology on the broker."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        for declaration in declarations(topology):
            match declaration:
                case Queue(name):
                    await channel.queue_delete(name)
                case Exchange(name):
                    await channel.exchange_delete(name)


@pytest.fixture()
def opened(rabbitmq_server: Any) -> Open:
    """Opens a broker, with settings of one's own if need be, and cleans up behind it."""

    @asynccontextmanager
    async def opened(topology: Topology, **settings: Any) -> AsyncIterator[Broker]:
        try:
            told = RabbitSettings(**{"url": rabbitmq_server.url, "topology": topology, **settings})
            async with open_rabbitmq(told, SystemClock(), RANDOM) as broker:
                yield broker
        finally:
            await delete(rabbitmq_server.url, topology)

    return opened


@pytest.fixture()
def open_broker(opened: Open) -> OpenBroker:
    return opened


class Relay:
    """A way to the broker that can be cut without touching the broker."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        credentials, _, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{credentials}@127.0.0.1:{self._port}").geturl()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._open |= {writer, far_writer}
        with suppress(ConnectionError):
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture()
async def relay(rabbitmq_server: Any) -> AsyncIterator[Relay]:
    relay = Relay(rabbitmq_server.url)
    await relay.listen()
    yield relay
    await relay.cut()


@pytest.fixture()
def topology() -> Topology:
    name = f"test-{uuid.uuid4().hex[:12]}"
    return Topology(exchange=name, prefix=name, ladder=(timedelta(seconds=0.2), timedelta(seconds=1)))


@pytest.fixture()
def router(topology: Topology) -> str:
    return topology.queue_of("agent-router")


class TestQuorumQueues(BrokerContract):
    """The default."""


class TestClassicQueues(BrokerContract):
    """Faster, on one node only."""

    counts_redeliveries = False
    enforces_delivery_limit = False

    @pytest.fixture()
    def topology(self, topology: Topology) -> Topology:
        return replace(topology, queue_type="classic")


# When the server goes away


async def is_served(broker: Broker) -> bool:
    """Whether a publish works, as a stage that retries would find out."""
    try:
        await broker.publish(outgoing(b"probe"))
    except BrokerUnavailable:
        return False
    return True


async def test_every_confirmed_message_survives_a_power_cut_under_load(
    own_rabbitmq: Any, opened: Open, topology: Topology, router: str
) -> None:
    confirmed: set[str] = set()
    arrived: set[str | None] = set()

    async def publish_for_ever(broker: Broker) -> None:
        while True:
            message = outgoing(b"load")
            try:
                await broker.publish(message)
                confirmed.add(message.message_id)
            except BrokerUnavailable:
                await eventually(lambda: broker.is_ready, within_s=60)

    async def consume_for_ever(broker: Broker) -> None:
        async with broker.consume(router, prefetch=20) as consumer:
            async for delivery in consumer.until(asyncio.Event()):
                arrived.add(delivery.message_id)
                with suppress(SettlementLost):
                    await delivery.ack()

    async with opened(topology, publish_timeout=timedelta(seconds=1)) as broker:
        load = [asyncio.create_task(publish_for_ever(broker)) for _ in range(10)]
        consumer = asyncio.create_task(consume_for_ever(broker))
        await eventually(lambda: len(confirmed) > 200)
        await asyncio.to_thread(own_rabbitmq.kill)
        before = len(confirmed)
        await eventually(lambda: not broker.is_ready)
        await asyncio.to_thread(own_rabbitmq.start)
        await eventually(lambda: len(confirmed) > before + 200, within_s=30)
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await eventually(lambda: arrived >= confirmed)
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)


async def test_a_closed_connection_loses_the_settlement_and_nothing_else(
    own_rabbitmq: Any, opened: Open, topology: Topology, router: str
) -> None:
    async with opened(topology) as broker, listening(broker, router, prefetch=2) as inbox:
        for body in (b"held", b"prefetched"):
            await broker.publish(outgoing(body))
        held = await inbox.next()
        await asyncio.to_thread(own_rabbitmq.ctl, "close_all_connections", "test")

        async def is_lost() -> bool:
            try:
                await (held.requeue() if broker.is_ready else held.ack())
            except SettlementLost:
                return True
            return False

        await eventually(is_lost)  # it takes a moment until we hear of it
        again = [await inbox.next(), await inbox.next()]
        assert [(delivery.body, delivery.redeliveries) for delivery in again] == [(b"held", 1), (b"prefetched", 1)]
        for delivery in again:
            await delivery.ack()
        await eventually(lambda: is_served(broker))
        await (await inbox.next()).ack()


async def test_publishing_to_a_lost_broker_fails_in_time_and_works_again_once_it_is_back(
    relay: Relay, opened: Open, topology: Topology
) -> None:
    async with opened(topology, url=relay.url, publish_timeout=timedelta(seconds=1)) as broker:
        await relay.cut()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(broker.publish(outgoing()) for _ in range(20)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
        assert time.monotonic() - started < 2
        assert not broker.is_ready
        with pytest.raises(BrokerUnavailable):
            await broker.depth(topology.queue_of("agent-router"))
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await broker.publish(outgoing())
        assert time.monotonic() - started < 0.5  # nobody waits into a long outage
        await relay.listen()
        await eventually(lambda: is_served(broker))
        await eventually(lambda: broker.is_ready)


async def test_a_short_loss_of_the_connection_is_waited_out(relay: Relay, opened: Open, topology: Topology) -> None:
    async with opened(topology, url=relay.url) as broker:
        await relay.cut()
        await eventually(lambda: not broker.is_ready)
        publish = asyncio.create_task(broker.publish(outgoing()))
        await relay.listen()
        await publish
        assert await broker.depth(topology.queue_of("agent-router")) == 1


async def test_of_a_message_that_was_sent_to_a_broker_that_hangs_nobody_knows_whether_it_is_there(
    own_rabbitmq: Any, opened: Open, topology: Topology
) -> None:
    async with opened(topology, publish_timeout=timedelta(seconds=0.5)) as broker:
        await broker.publish(outgoing())
        own_rabbitmq.freeze()
        try:
            with pytest.raises(Unconfirmed):
                await broker.publish(outgoing())
        finally:
            own_rabbitmq.thaw()
        await eventually(lambda: is_served(broker))


async def test_a_broker_that_hangs_is_unavailable_in_time_and_leaves_nothing_behind(
    own_rabbitmq: Any, opened: Open, topology: Topology
) -> None:
    async with opened(topology, publish_timeout=timedelta(seconds=0.5)) as broker:
        own_rabbitmq.freeze()
        try:
            started = time.monotonic()
            outcomes = await asyncio.gather(*(broker.publish(outgoing()) for _ in range(200)), return_exceptions=True)
            assert ({type(outcome) for outcome in outcomes}, time.monotonic() - started < 2) == (
                {BrokerUnavailable},
                True,
            )
        finally:
            own_rabbitmq.thaw()
        await eventually(lambda: is_served(broker))


async def test_a_memory_alarm_refuses_at_once_lets_consumers_work_and_passes(
    own_rabbitmq: Any, opened: Open, topology: Topology, router: str
) -> None:
    async with opened(topology, publish_timeout=timedelta(seconds=0.5)) as broker, listening(broker, router) as inbox:
        await broker.publish(outgoing(b"before"))
        delivery = await inbox.next()
        await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.0000001")
        try:
            await eventually(lambda: _is_blocked(broker))
            assert not broker.is_ready
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="alarm"):
                await broker.publish(outgoing())
            assert time.monotonic() - started < 0.2
            with pytest.raises(BrokerUnavailable):
                await delivery.retry_after(timedelta(), {})
            await delivery.ack()
            assert await broker.depth(router) == 0
        finally:
            await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        await eventually(lambda: is_served(broker))
        await eventually(lambda: broker.is_ready)


async def _is_blocked(broker: Broker) -> bool:
    with suppress(BrokerUnavailable):
        await broker.publish(outgoing(routing_key="task.completed"))
    return not broker.is_ready


async def test_a_consumer_resumes_when_its_deleted_queue_is_back(
    rabbitmq_server: Any, opened: Open, topology: Topology, router: str
) -> None:
    async with opened(topology) as broker, listening(broker, router) as inbox:
        assert await inbox.is_silent()
        async with aiormq.connect(rabbitmq_server.url) as connection:
            await (await connection.channel()).queue_delete(router)
        assert await inbox.is_silent()
        with pytest.raises(Unroutable):
            await broker.publish(outgoing())
        async with open_rabbitmq(RabbitSettings(rabbitmq_server.url, topology), SystemClock(), RANDOM):
            await broker.publish(outgoing(b"again"))
        assert (await inbox.next()).body == b"again"


# Starting


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_length": 7}, r"queue 'test-.*' has x-max-length \d+, this release expects 7"),
        ({"queue_type": "classic"}, r"queue 'test-.*' has x-queue-type quorum, this release expects classic"),
        ({"delivery_limit": 3}, r"queue 'test-.*agent-router' has x-delivery-limit 50, this release expects 3"),
    ],
    ids=["length", "type", "limit"],
)
async def test_a_topology_that_differs_is_reported_and_left_alone(
    opened: Open, topology: Topology, change: dict[str, Any], said: str, rabbitmq_server: Any
) -> None:
    async with opened(topology) as broker:
        await broker.publish(outgoing(b"kept"))
        with pytest.raises(TopologyMismatch, match=said):
            async with open_rabbitmq(
                RabbitSettings(rabbitmq_server.url, replace(topology, **change)), SystemClock(), RANDOM
            ):
                pass
        assert await broker.depth(topology.queue_of("agent-router")) == 1


async def test_a_binding_that_a_new_release_needs_is_added_to_what_is_there(
    opened: Open, topology: Topology, rabbitmq_server: Any
) -> None:
    formatter = topology.queue_of("formatter")
    updated = replace(outgoing(), routing_key="history.updated", message_id=str(uuid.uuid4()))
    async with opened(topology) as broker:
        async with aiormq.connect(rabbitmq_server.url) as connection:
            channel = await connection.channel()
            await channel.queue_unbind(formatter, topology.exchange, "history.updated")
        with pytest.raises(Unroutable):
            await broker.publish(updated)
        async with open_rabbitmq(RabbitSettings(rabbitmq_server.url, topology), SystemClock(), RANDOM) as newer:
            await newer.publish(updated)
            assert await newer.depth(formatter) == 1


async def test_a_topology_that_differs_in_several_places_is_reported_whole(
    opened: Open, topology: Topology, rabbitmq_server: Any
) -> None:
    async with opened(topology):
        other = RabbitSettings(rabbitmq_server.url, replace(topology, delivery_limit=3))
        with pytest.raises(TopologyMismatch) as caught:
            async with open_rabbitmq(other, SystemClock(), RANDOM):
                pass
    assert [queue.name for queue in topology.stage_queues if f"{queue.name!r}" not in str(caught.value)] == []


async def test_a_topology_that_differs_after_a_reconnect_ends_the_service(
    relay: Relay, opened: Open, topology: Topology, rabbitmq_server: Any
) -> None:
    changed = replace(topology, max_length=7)
    with pytest.raises(TopologyMismatch):  # noqa: PT012 - it comes into the body
        async with opened(topology, url=relay.url):
            await relay.cut()
            await delete(rabbitmq_server.url, topology)
            async with open_rabbitmq(RabbitSettings(rabbitmq_server.url, changed), SystemClock(), RANDOM):
                await relay.listen()
                await asyncio.Event().wait()


async def test_a_wrong_password_is_told_at_once_and_not_repeated(rabbitmq_server: Any, topology: Topology) -> None:
    url = rabbitmq_server.url.replace("guest:guest", "guest:s3cret")
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"guest@.* refused the user or the password") as caught:
        async with open_rabbitmq(RabbitSettings(url, topology), SystemClock(), RANDOM):
            pass
    assert time.monotonic() - started < 5
    assert "s3cret" not in _all_said(caught.value)


async def test_an_unreachable_host_is_told_after_the_start_up_deadline(topology: Topology) -> None:
    settings = RabbitSettings("amqp://u:s3cret@127.0.0.1:1/", topology, connect_timeout=timedelta(seconds=0.7))
    with pytest.raises(BrokerUnavailable, match=r"no connection to amqp://u@127\.0\.0\.1:1/ within 0\.7 s") as caught:
        async with open_rabbitmq(settings, SystemClock(), RANDOM):
            pass
    assert "s3cret" not in _all_said(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "s3cret", "http://u:s3cret@h/", "amqp://u:s3cret/x@h:5672/", "amqp://u:#s3cret@h", "amqp://u:1/s3cret@h"],
)
async def test_what_is_no_address_is_refused_without_repeating_it(topology: Topology, url: str) -> None:
    with pytest.raises(ValueError, match="amqp://user:password@host") as caught:
        async with open_rabbitmq(RabbitSettings(url, topology), SystemClock(), RANDOM):
            pass
    assert "s3cret" not in _all_said(caught.value)


def _all_said(error: BaseException | None) -> str:
    """The texts of the whole chain, as a log would show them."""
    return f"{error!r} {_all_said(error.__cause__ or error.__context__)}" if error is not None else ""


async def test_a_start_waits_for_a_broker_that_comes_later(relay: Relay, opened: Open, topology: Topology) -> None:
    await relay.cut()

    async def come_once_it_was_missed() -> None:
        await eventually(lambda: "broker_connect_failed" in {line["event"] for line in lines})
        await relay.listen()

    with capture_logs() as lines:
        coming = asyncio.create_task(come_once_it_was_missed())
        async with opened(topology, url=relay.url) as broker:
            assert broker.is_ready
        await coming


async def test_an_error_inside_the_context_comes_out_as_it_is(opened: Open, topology: Topology) -> None:
    with pytest.raises(KeyError):
        async with opened(topology):
            raise KeyError


def test_settings_do_not_show_the_password() -> None:
    assert "s3cret" not in repr(RabbitSettings("amqp://u:s3cret@h/", Topology()))


# Messages of others


async def test_a_foreign_message_keeps_its_nature_through_the_ladder(
    rabbitmq_server: Any, opened: Open, topology: Topology, router: str
) -> None:
    foreign = aiormq.spec.Basic.Properties(
        expiration="60000",
        user_id="guest",
        correlation_id="c1",
        headers={"text": "kept", "number": 7, "list": ["dropped"], "table": {"dropped": 1}},
    )
    async with opened(topology) as broker, listening(broker, router) as inbox:
        async with aiormq.connect(rabbitmq_server.url) as connection:
            channel = await connection.channel()
            await channel.basic_publish(
                b"old", exchange=topology.exchange, routing_key="message.text", properties=foreign
            )
        first = await inbox.next()
        assert first.headers == {"text": "kept", "number": 7}
        await first.retry_after(timedelta(), first.headers)
        again = await inbox.next()
        assert (again.headers, again.event, again.timestamp, again.routing_key) == (
            {"text": "kept", "number": 7},
            None,
            None,
            "message.text",
        )
