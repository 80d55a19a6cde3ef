"""Several replicas keep one limit: never more calls in any period, and everybody gets through.

The same for a minute, with whole processes, a real Redis and the sandbox's log of calls: tests/acceptance/providers.py.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eai_agent_router.guards import ProviderLimited
from eai_common.clock import Deadline
from eai_common.guards import Call, RateLimit, Window
from eai_common.store import SlidingWindow, open_memory_redis
from eai_common.testing import RANDOM, pass_time

PERIOD = timedelta(seconds=1)
LIMIT, REPLICAS, TURNS = 20, 3, 60


@pytest.mark.virtual_time()
async def test_replicas_keep_a_limit_together_and_no_turn_is_lost() -> None:
    made: list[float] = []
    refused = 0

    async def turn(replicas: list[RateLimit]) -> None:
        nonlocal refused
        while True:
            try:
                replica = RANDOM.choice(replicas)  # as the broker would: whoever is free
                async with replica.enter(Call(Deadline.after(PERIOD))):
                    made.append(asyncio.get_running_loop().time())
                    return
            except ProviderLimited as error:
                refused += 1
                await pass_time(error.delay)

    async with open_memory_redis() as redis:
        replicas = [
            RateLimit(
                "together",
                Window(LIMIT, PERIOD),
                SlidingWindow(redis),
                refusal=ProviderLimited,
                random=RANDOM.random,
            )
            for _ in range(REPLICAS)
        ]
        async with asyncio.timeout(30):
            await asyncio.gather(*(turn(replicas) for _ in range(TURNS)))
    made.sort()
    windows = [made[first + LIMIT] - made[first] for first in range(TURNS - LIMIT)]
    assert min(windows) > PERIOD.total_seconds() - 0.002  # Redis counts in milliseconds
    assert refused < TURNS * 6  # nobody came back again and again for nothing
