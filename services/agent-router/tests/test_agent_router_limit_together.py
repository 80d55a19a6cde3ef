"""Several replicas keep one limit, on a real Redis: never more calls in any period, and everybody gets through.

The same for a minute, with whole processes and the sandbox's log of calls: tests/acceptance/providers.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta
from typing import Any

from eai_agent_router.guards import ProviderLimited
from eai_common.clock import Deadline
from eai_common.guards import Call, RateLimit, Window
from eai_common.settings import RedisSettings
from eai_common.store import SlidingWindow, open_redis
from eai_common.testing import RANDOM

PERIOD = timedelta(seconds=1)
LIMIT, REPLICAS, TURNS = 20, 3, 60


async def test_replicas_keep_a_limit_together_and_no_turn_is_lost(redis_server: Any) -> None:
    made: list[float] = []
    refused = 0

    async def turn(replicas: list[RateLimit]) -> None:
        nonlocal refused
        while True:
            try:
                replica = random.choice(replicas)  # as the broker would: whoever is free
                async with replica.enter(Call(Deadline.after(PERIOD))):
                    made.append(time.monotonic())
                    return
            except ProviderLimited as error:
                refused += 1
                await asyncio.sleep(error.delay.total_seconds())

    async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis:
        await redis.driver.delete("ratelimit:{provider:together}")
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
    tolerance_s = 0.4  # how much later than Redis took a place this process may have seen it, on a busy machine
    windows = [made[first + LIMIT] - made[first] for first in range(TURNS - LIMIT)]
    assert min(windows) > PERIOD.total_seconds() - tolerance_s
    assert refused < TURNS * 6  # nobody came back again and again for nothing
