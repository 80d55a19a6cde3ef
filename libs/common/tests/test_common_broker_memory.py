"""The in-memory broker: the whole contract, and what only it can do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eai_common.broker import BrokerUnavailable, SettlementLost
from eai_common.broker.memory import MemoryBroker, Message
from eai_common.broker.testing import BrokerContract, OpenBroker, listening, outgoing
from eai_common.clock import Clock
from eai_common.testing import LoopClock, pass_time, run_ready
from eai_common.topology import Topology

pytestmark = pytest.mark.virtual_time

ROUTER = "eai.agent-router"


class TestMemoryBroker(BrokerContract):
    @pytest.fixture()
    def clock(self) -> Clock:
        return LoopClock()

    @pytest.fixture()
    def open_broker(self, clock: Clock) -> OpenBroker:
        return lambda topology: MemoryBroker(topology, clock)


async def test_a_retry_waits_in_the_time_of_the_loop() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        await broker.publish(outgoing())
        async with listening(broker, ROUTER) as inbox:
            await (await inbox.next()).retry_after(timedelta(minutes=3), {})
            await pass_time(timedelta(minutes=4, seconds=59))
            assert (await inbox.is_silent(), broker.waiting) == (True, 1)
            await pass_time(timedelta(seconds=1))
            await inbox.next()
    assert broker.waiting == 0


async def test_closing_the_broker_ends_what_waits_in_the_ladder() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        await broker.publish(outgoing())
        async with listening(broker, ROUTER) as inbox:
            await (await inbox.next()).retry_after(timedelta(hours=6), {})
    assert broker.waiting == 0


async def test_an_error_inside_the_context_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with MemoryBroker(Topology(), LoopClock()):
            raise KeyError


async def test_a_broker_that_is_down_refuses_everything() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        broker.go_down()
        assert not broker.is_ready
        with pytest.raises(BrokerUnavailable):
            await broker.publish(outgoing())
        with pytest.raises(BrokerUnavailable):
            await broker.depth(ROUTER)


async def test_going_down_takes_deliveries_from_their_consumers_which_resume_afterwards() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        await broker.publish(outgoing())
        async with listening(broker, ROUTER) as inbox:
            lost = await inbox.next()
            waiting = asyncio.create_task(inbox.next())
            await run_ready()
            broker.go_down()
            with pytest.raises(SettlementLost):
                await lost.ack()
            assert await inbox.is_silent()
            broker.come_back()
            again = await waiting
            assert (again.message_id, again.redeliveries) == (lost.message_id, 1)


async def test_its_inside_can_be_seen() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        for body in (b"first", b"second"):
            await broker.publish(outgoing(body))
        async with listening(broker, ROUTER, prefetch=1) as inbox:
            await inbox.next()
            assert ([message.body for message in broker.contents(ROUTER)], broker.unsettled(ROUTER)) == ([b"second"], 1)


async def test_a_foreign_message_without_properties_is_delivered_as_it_is() -> None:
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        broker.put(ROUTER, Message("message.text", b"old"))
        async with listening(broker, ROUTER) as inbox:
            delivery = await inbox.next()
            assert (delivery.message_id, delivery.event, delivery.timestamp) == (None, None, None)


async def test_the_publishers_headers_and_the_stored_ones_are_not_the_same_object() -> None:
    headers = {"attempt": 1}
    async with MemoryBroker(Topology(), LoopClock()) as broker:
        await broker.publish(outgoing(headers=headers))
        headers["attempt"] = 2
        assert broker.contents(ROUTER)[0].headers == {"attempt": 1}
