"""Several replicas keep one limit, on a real Redis: never more calls in any period, and everybody gets through.

The same for a minute, with whole processes and the sandbox's log of calls: tests/acceptance/providers.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta
from typing import Any

from eai_agent_router.agent import Turn
from eai_agent_router.guards import ProviderLimited
from eai_agent_router.guards.booking import Booking
from eai_agent_router.guards.limit import Limit
from eai_common.guards import Window
from eai_common.settings import RedisSettings
from eai_common.store import SlidingWindow, open_redis
from eai_common.testing import RANDOM

PERIOD = timedelta(seconds=1)
LIMIT, REPLICAS, TURNS = 20, 3, 60


async def test_replicas_keep_a_limit_together_and_no_turn_is_lost(redis_server: Any) -> None:
    made: list[float] = []
    refused = 0

    async def turn(number: int, replicas: list[Limit]) -> None:
        nonlocal refused
        asked = Turn(f"{number}", "+5521999999999", "Oi")
        while True:
            try:
                async with random.choice(replicas).passing(asked):  # as the broker would: whoever is free
                    made.append(time.monotonic())
                    return
            except ProviderLimited as error:
                refused += 1
                await asyncio.sleep(error.delay.total_seconds())

    async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis:
        await redis.delete("ratelimit:{provider:together}")
        replicas = [
            Limit(
                "together",
                Window(LIMIT, PERIOD),
                SlidingWindow(redis),
                Booking(RANDOM.random, horizon=2 * PERIOD),
            )
            for _ in range(REPLICAS)
        ]
        async with asyncio.timeout(30):
            await asyncio.gather(*(turn(number, replicas) for number in range(TURNS)))
    made.sort()
    tolerance_s = 0.4  # how much later than Redis took a place this process may have seen it, on a busy machine
    windows = [made[first + LIMIT] - made[first] for first in range(TURNS - LIMIT)]
    assert min(windows) > PERIOD.total_seconds() - tolerance_s
    assert refused < TURNS * 6  # nobody came back again and again for nothing
