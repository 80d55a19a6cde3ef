"""Waits in the ladder: as long as they were meant, in few hops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eai_common.broker import Outgoing
from eai_common.broker.memory import MemoryBroker
from eai_common.errors import Deferred
from eai_common.ids import Ids
from eai_common.messages import MessageText, encode
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import Stage, StageContext, StageResources, handler_for, run_stage
from eai_common.stage.delivery import next_hop, read_wait_left, with_wait_left
from eai_common.store import open_memory_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock
from eai_common.topology import LADDER, Topology

SECOND = timedelta(seconds=1)


def hops(wait: timedelta) -> Iterator[timedelta]:
    left = wait
    while left:
        hop = next_hop(left, LADDER)
        yield hop
        left = read_wait_left(with_wait_left({}, left - hop))


@pytest.mark.parametrize(
    ("wait_s", "hops_s"),
    [
        (0, [1]),
        (0.4, [1]),
        (1.2, [2]),
        (4, [5]),
        (12, [10, 2]),
        (20, [10, 10]),
        (25, [10, 10, 5]),
        (45, [30, 10, 5]),
        (61, [60, 1]),
        (100, [60, 30, 10]),
        (30 * 3600, [21600] * 5),
    ],
)
def test_a_wait_goes_over_the_rungs_that_fit(wait_s: float, hops_s: list[int]) -> None:
    wait = max(timedelta(seconds=wait_s), timedelta(milliseconds=1))
    assert [hop.total_seconds() for hop in hops(wait)] == hops_s


@given(st.timedeltas(timedelta(milliseconds=1), timedelta(hours=6)))
@example(timedelta(seconds=17328))  # the most hops that there are up to six hours
def test_a_wait_is_about_as_long_as_it_was_meant_in_few_hops(wait: timedelta) -> None:
    taken = list(hops(wait))
    assert wait - SECOND / 2 < sum(taken, timedelta()) <= wait + max(SECOND, wait / 10)
    assert len(taken) <= 14


@pytest.mark.parametrize("rung", LADDER)
def test_a_wait_that_a_rung_fits_is_one_hop(rung: timedelta) -> None:
    assert list(hops(rung)) == [rung]


@pytest.mark.parametrize("garbled", ["", "soon", "5000", -1])
def test_a_header_that_someone_garbled_is_no_wait(garbled: str | int) -> None:
    assert read_wait_left({"x-eai-wait-left-ms": garbled}) == timedelta()


def test_the_last_hop_takes_the_mark_off() -> None:
    marked = with_wait_left({"x-eai-attempt": 2}, SECOND)
    assert (read_wait_left(marked), with_wait_left(marked, timedelta())) == (SECOND, {"x-eai-attempt": 2})


@pytest.mark.virtual_time()
async def test_between_two_hops_nobody_works_on_the_delivery_and_its_wait_is_counted_whole() -> None:
    clock = LoopClock()
    seen: list[tuple[float, timedelta]] = []
    stop = asyncio.Event()

    async def handle(message: MessageText, ctx: StageContext) -> None:
        seen.append((asyncio.get_running_loop().time(), ctx.attempt.waited))
        if len(seen) == 1:
            raise Deferred("not now", delay=timedelta(seconds=0.8))
        stop.set()

    topology = Topology(ladder=(timedelta(seconds=0.2), 30 * SECOND))
    async with MemoryBroker(topology, clock) as broker, open_memory_redis() as redis:
        parts = StageResources(
            broker=broker,
            redis=redis,
            clock=clock,
            random=RANDOM,
            ids=Ids(clock, RANDOM),
            metrics=Metrics(),
            tracing=open_tracing(TelemetrySettings(), service="test"),
            broker_settings=BrokerSettings(),
            worker_settings=WorkerSettings(),
            task_settings=TaskSettings(),
            process_settings=ProcessSettings(),
        )
        await broker.publish(_outgoing(clock))
        async with asyncio.timeout(10):
            await run_stage(Stage("agent-router", (handler_for(MessageText, handle),)), parts, stop)
    (first, _), (second, waited) = seen
    assert second - first == pytest.approx(0.4)
    assert waited == timedelta(seconds=0.4)  # the last half second is not worth a hop


def _outgoing(clock: LoopClock) -> Outgoing:
    message = MessageText(
        message_id=Ids(clock, RANDOM).message_id(), user_number="+5521999999999", timestamp=clock.now(), message="Oi"
    )
    return Outgoing(message.name, encode(message), message.message_id, message.name, message.timestamp)
