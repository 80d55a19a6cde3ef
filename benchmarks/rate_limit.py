"""What a decision of the rate limiter costs, and whether it is right, against the `limits` package, as JSON.

    .venv/bin/python benchmarks/rate_limit.py

Both ask the same private Redis, with redis-py, about 1,000 a minute and 100 in 10 s. The baseline `limits` is its
asynchronous moving window: one `hit` for each window, and `get_window_stats` for each, which is what headers need.
`limits_one_hit` is the least that it can do: one window, no headers. The sides take turns, so that a busy machine
disturbs all alike.
"""

from __future__ import annotations

import asyncio
import bisect
import importlib
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from eai_cli.servers import run_private_redis
from eai_common.guards import Window
from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, SlidingWindow, open_redis, together_all

WINDOWS = (Window(1000, timedelta(minutes=1)), Window(100, timedelta(seconds=10)))
ITEMS = (RateLimitItemPerMinute(1000), RateLimitItemPerSecond(100, 10))
CONCURRENCY, DECISIONS, ROUNDS, CLIENTS = 50, 3000, 5, 25

Decide = Callable[[list[str]], Awaitable[object]]
"""Decide about requests that arrive together, one of each subject."""


def sides(redis: RedisClient, limits: MovingWindowRateLimiter) -> dict[str, Decide]:
    """What is compared."""
    window = SlidingWindow(redis)

    async def full(subject: str) -> None:
        if all([await limits.hit(item, subject) for item in ITEMS]):
            for item in ITEMS:
                await limits.get_window_stats(item, subject)

    async def batched(subjects: list[str]) -> None:
        await together_all([window.take(subject, WINDOWS) for subject in subjects])

    return {
        "ours": lambda subjects: asyncio.gather(*(window.take(subject, WINDOWS) for subject in subjects)),
        "ours_batched": batched,
        "limits": lambda subjects: asyncio.gather(*(full(subject) for subject in subjects)),
        "limits_one_hit": lambda subjects: asyncio.gather(*(limits.hit(ITEMS[0], subject) for subject in subjects)),
    }


async def cost(redis: RedisClient, decide: Decide, name: str, number: int) -> dict[str, float]:
    """Seconds, our CPU and Redis' for each decision; half of the clients' tries are refused by the end."""
    subjects = [f"{name}:{number}:{client % CLIENTS}" for client in range(CONCURRENCY)]
    await decide(subjects)
    before, began, cpu = await redis_use(redis), time.perf_counter(), time.process_time()
    for _ in range(DECISIONS // CONCURRENCY):
        await decide(subjects)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    after = await redis_use(redis)
    return {
        "us": took / DECISIONS * 1e6,
        "client_cpu_us": used / DECISIONS * 1e6,
        "redis_cpu_us": (after[0] - before[0]) / DECISIONS * 1e6,
        "script_calls": (after[1] - before[1]) / DECISIONS,
    }


async def redis_use(redis: RedisClient) -> tuple[float, int]:
    """CPU seconds of the server, and scripts run."""
    cpu, commands = await redis.driver.info("cpu"), await redis.driver.info("commandstats")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], commands.get("cmdstat_evalsha", {}).get("calls", 0)


async def costs(redis: RedisClient, compared: dict[str, Decide]) -> dict[str, dict[str, float]]:
    """The best of several rounds for each figure of each side."""
    best: dict[str, dict[str, float]] = {}
    for number in range(ROUNDS):
        for name, decide in compared.items():
            figures = await cost(redis, decide, name, number)
            best[name] = {key: min(value, best.get(name, figures)[key]) for key, value in figures.items()}
    return {name: {key: round(value, 1) for key, value in figures.items()} for name, figures in best.items()}


async def most_in_a_window(allow: Callable[[int], Awaitable[bool]], seconds: float = 3.0) -> int:
    """The most that were for certain allowed within a second; all tries go to one replica, and soon to the other."""
    allowed: list[tuple[float, float]] = []  # when it was asked, when it was answered: Redis decided in between
    start = time.monotonic()
    while (began := time.monotonic()) < start + seconds:
        if await allow(0 if began < start + 0.3 else 1):
            allowed.append((began, time.monotonic()))
    asked = [began for began, _ in allowed]
    return max(
        position - bisect.bisect_left(asked, answered - 1.0) + 1 for position, (_, answered) in enumerate(allowed)
    )


async def exactness(redis: RedisClient, limits: MovingWindowRateLimiter) -> dict[str, int]:
    """Of 100 a second: replicas with the same clock, and one whose clock is ahead by 400 ms."""
    package: Any = importlib.import_module("limits.aio.storage.redis.redispy")
    window, item = Window(100, timedelta(seconds=1)), RateLimitItemPerSecond(100)

    def with_skew(skew_s: float) -> Callable[[int], Awaitable[bool]]:
        async def allow(replica: int) -> bool:
            # The package reads its own host's clock; ours asks Redis, so there is nothing to shift.
            package.time = SimpleNamespace(time=lambda: time.time() + replica * skew_s)
            return await limits.hit(item, f"exact:{skew_s}")

        return allow

    async def ours(_: int) -> bool:
        return (await SlidingWindow(redis).take("exact", [window])).is_allowed

    try:
        return {
            "limit": 100,
            "ours": await most_in_a_window(ours),
            "limits_same_clock": await most_in_a_window(with_skew(0.0)),
            "limits_clock_400_ms_ahead": await most_in_a_window(with_skew(0.4)),
        }
    finally:
        package.time = time


async def memory(redis: RedisClient, limits: MovingWindowRateLimiter) -> dict[str, int]:
    """Bytes in Redis of one client that has used up 1,000 a minute."""
    window = SlidingWindow(redis)
    for _ in range(1000):
        await window.take("memory", WINDOWS[:1])
        await limits.hit(ITEMS[0], "memory")
    found = {str(key): int(await redis.driver.memory_usage(key) or 0) for key in await redis.driver.keys("*memory*")}
    return {"ours" if "ratelimit:" in key else "limits": size for key, size in found.items()}


async def measured(url: str) -> dict[str, object]:
    """Everything, on the Redis at this address."""
    async with open_redis(RedisSettings.read({"REDIS_URL": url, "REDIS_POOL_SIZE": str(CONCURRENCY)})) as redis:
        storage = RedisStorage(f"async+{url}", implementation="redispy")
        limits = MovingWindowRateLimiter(storage)
        figures = await costs(redis, sides(redis, limits))
        baseline = figures["limits"]
        report: dict[str, object] = {
            "cost_of_one_decision": figures,
            "baseline": "limits: two hits and two get_window_stats",
            "ratio_to_baseline_us": {
                name: round(baseline["us"] / figures[name]["us"], 2) for name in ("ours", "ours_batched")
            },
            "ratio_to_one_hit_us": {
                name: round(figures["limits_one_hit"]["us"] / figures[name]["us"], 2)
                for name in ("ours", "ours_batched")
            },
            "most_in_any_second": await exactness(redis, limits),
            "bytes_of_1000_places": await memory(redis, limits),
        }
        client: Any = storage.bridge
        await client.storage.aclose()
        return report


def main() -> None:
    """Measure all and print."""
    with run_private_redis() as server:
        report = asyncio.run(measured(server.url))
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "limits": version("limits")}
    print(json.dumps({"benchmark": "rate_limit", "machine": machine, **report}, indent=2))


if __name__ == "__main__":
    main()
