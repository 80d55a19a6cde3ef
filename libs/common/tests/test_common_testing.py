"""The tests' own tools: virtual time, and conditions with a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from blockbuster import BlockingError

from eai_common.store import open_memory_redis
from eai_common.testing import RANDOM, LoopClock, eventually, pass_time, run_ready, wait_until

HOUR = timedelta(hours=1)


@pytest.mark.virtual_time()
async def test_virtual_time_passes_at_once_for_the_loop_the_clock_and_redis() -> None:
    clock, began_s, real_s = LoopClock(), asyncio.get_running_loop().time(), time.monotonic()
    began = clock.now()
    async with open_memory_redis() as redis:
        await redis.driver.set("short", b"", px=HOUR)
        await redis.driver.set("long", b"", px=HOUR * 3)
        await pass_time(HOUR * 2)
        left = await redis.driver.keys()
    assert (left, clock.now() - began) == ([b"long"], HOUR * 2)
    assert asyncio.get_running_loop().time() - began_s == 7200
    assert time.monotonic() - real_s < 30


@pytest.mark.virtual_time()
async def test_what_is_due_at_the_end_of_a_time_that_passed_has_happened() -> None:
    happened: list[float] = []

    async def wait_and_tell() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        await run_ready(20)
        happened.append(asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as group:
        group.create_task(wait_and_tell())
        await pass_time(timedelta(seconds=60))
        assert happened == [60]


@pytest.mark.virtual_time()
async def test_a_thread_is_waited_for_though_time_is_virtual() -> None:
    async with asyncio.timeout(HOUR.total_seconds()):
        assert await asyncio.to_thread(lambda: "done") == "done"


async def test_time_does_not_pass_at_will_outside_of_virtual_time() -> None:
    assert abs(time.time() - LoopClock().now().timestamp()) > 3600
    with pytest.raises(AssertionError, match="virtual_time"):
        await pass_time(HOUR)


@pytest.mark.virtual_time()
async def test_a_condition_that_never_holds_is_shown_once_its_time_is_up() -> None:
    with pytest.raises(AssertionError, match=r"after 5 s: .*1 > 2"):
        await eventually(lambda: 1 > 2, within_s=5)
    with pytest.raises(AssertionError, match=r"after 0 s: .*2 > 3"):
        wait_until(lambda: 2 > 3, within_s=0)


async def test_a_condition_may_be_awaited_or_not() -> None:
    ready = asyncio.Event()

    async def is_ready() -> bool:
        return ready.is_set()

    asyncio.get_running_loop().call_later(0.02, ready.set)
    await eventually(is_ready)
    await eventually(ready.is_set)


async def test_ready_tasks_run_until_they_wait() -> None:
    steps: list[int] = []

    async def count() -> None:
        for number in range(50):
            steps.append(number)
            await run_ready(1)
        await asyncio.Event().wait()

    counting = asyncio.create_task(count())
    await run_ready()
    assert len(steps) == 50
    counting.cancel()


def test_chance_is_the_same_in_each_run_and_another_in_each_test(request: pytest.FixtureRequest) -> None:
    assert RANDOM.random() == Random(request.node.nodeid).random()


async def test_what_blocks_the_event_loop_is_an_error() -> None:
    with pytest.raises(BlockingError, match=r"os\.listdir") as caught:
        os.listdir()
    vars(type(caught.value))["seen"].clear()  # else this test would fail for it


@pytest.mark.blocks_the_loop()
async def test_a_test_may_block_the_event_loop_on_purpose() -> None:
    assert os.listdir()
