"""The sliding window: one contract, held by the in-process Redis and by a real one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ResponseError

from eai_common.guards import Window
from eai_common.settings import RedisSettings
from eai_common.store import (
    RedisClient,
    Script,
    SlidingWindow,
    StoreUnavailable,
    command,
    open_memory_redis,
    open_redis,
    together,
)
from eai_common.testing import eventually

MINUTE = Window(5, timedelta(minutes=1))
BURST = Window(2, timedelta(milliseconds=300))
NOTHING = timedelta()


class SlidingWindowContract:
    """What every sliding window does. A test class gives `redis`, a client of an open Redis."""

    @pytest.fixture()
    def limiter(self, redis: RedisClient) -> SlidingWindow:
        return SlidingWindow(redis)

    @pytest.fixture()
    def subject(self) -> str:
        return f"test:{uuid.uuid4()}"

    async def test_the_limit_is_taken_and_not_one_more(self, limiter: SlidingWindow, subject: str) -> None:
        taken = [(await limiter.take(subject, [MINUTE])).is_allowed for _ in range(7)]
        assert taken == [True] * 5 + [False] * 2

    async def test_of_many_at_once_exactly_the_limit_is_allowed(self, redis: RedisClient, subject: str) -> None:
        replicas = [SlidingWindow(redis) for _ in range(3)]
        window = Window(50, timedelta(minutes=1))
        taken = await asyncio.gather(*(replicas[n % 3].take(subject, [window]) for n in range(200)))
        assert sum(one.is_allowed for one in taken) == 50

    async def test_subjects_do_not_count_against_each_other(self, limiter: SlidingWindow, subject: str) -> None:
        for _ in range(6):
            await limiter.take(subject, [MINUTE])
        assert (await limiter.take(f"{subject}:other", [MINUTE])).is_allowed

    async def test_what_is_left_is_told(self, limiter: SlidingWindow, subject: str) -> None:
        remaining = [(await limiter.take(subject, [MINUTE])).states[0].remaining for _ in range(6)]
        assert remaining == [4, 3, 2, 1, 0, 0]

    async def test_every_window_must_have_a_place(self, limiter: SlidingWindow, subject: str) -> None:
        taken = [await limiter.take(subject, [MINUTE, BURST]) for _ in range(3)]
        assert [one.is_allowed for one in taken] == [True, True, False]
        assert [(state.window, state.remaining) for state in taken[-1].states] == [(MINUTE, 3), (BURST, 0)]

    async def test_a_refused_try_uses_nothing_up(self, limiter: SlidingWindow, subject: str) -> None:
        for _ in range(20):
            refused = await limiter.take(subject, [MINUTE, BURST])
        assert refused.states[0].remaining == 3

    async def test_a_place_frees_when_it_was_told_to_and_not_before(self, limiter: SlidingWindow, subject: str) -> None:
        await limiter.take(subject, [BURST])
        await asyncio.sleep(0.1)  # Redis tells the time itself, and so apart must be the first from the second
        await limiter.take(subject, [BURST])
        wait = (await limiter.take(subject, [BURST])).retry_after
        assert wait <= timedelta(milliseconds=200)  # until the first leaves, not the second
        began_s = asyncio.get_running_loop().time()

        async def is_allowed() -> bool:
            return (await limiter.take(subject, [BURST])).is_allowed

        await eventually(is_allowed)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(wait.total_seconds(), abs=0.1)

    async def test_the_wait_of_a_refusal_is_the_longest_of_the_full_windows(
        self, limiter: SlidingWindow, subject: str
    ) -> None:
        windows = [Window(1, timedelta(minutes=1)), Window(1, timedelta(seconds=5)), Window(9, timedelta(hours=1))]
        allowed = await limiter.take(subject, windows)
        refused = await limiter.take(subject, windows)
        assert (allowed.is_allowed, refused.is_allowed) == (True, False)
        assert timedelta(seconds=55) < refused.retry_after <= timedelta(minutes=1)

    async def test_a_client_refused_for_so_long_that_a_shorter_window_is_empty_is_told_so(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str
    ) -> None:
        seconds, _ = await redis.driver.time()
        earlier = (int(seconds) - 30) * 1_000_000
        await redis.driver.zadd(f"ratelimit:{{{subject}}}", {str(earlier + n): earlier + n for n in range(5)})
        await redis.driver.expire(f"ratelimit:{{{subject}}}", 60)
        refused = await limiter.take(subject, [MINUTE, BURST])
        assert [(state.remaining, state.frees_in > NOTHING) for state in refused.states] == [(0, True), (2, False)]
        assert not refused.is_allowed

    async def test_there_is_nothing_to_wait_for_while_places_are_left(
        self, limiter: SlidingWindow, subject: str
    ) -> None:
        assert (await limiter.take(subject, [MINUTE, BURST])).retry_after == NOTHING

    async def test_a_limit_that_was_lowered_holds_at_once(self, limiter: SlidingWindow, subject: str) -> None:
        for _ in range(5):
            await limiter.take(subject, [MINUTE])
        lowered = await limiter.take(subject, [Window(2, MINUTE.period)])
        assert (lowered.is_allowed, lowered.states[0].remaining) == (False, 0)
        assert timedelta(seconds=50) < lowered.retry_after <= MINUTE.period

    async def test_times_from_a_server_whose_clock_was_ahead_do_not_count(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str
    ) -> None:
        seconds, _ = await redis.driver.time()
        ahead = (int(seconds) + 3600) * 1_000_000
        await redis.driver.zadd(f"ratelimit:{{{subject}}}", {str(ahead + n): ahead + n for n in range(5)})
        assert (await limiter.take(subject, [MINUTE])).states[0].remaining == 4

    async def test_a_log_lives_a_little_longer_than_its_longest_window(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str
    ) -> None:
        await limiter.take(subject, [BURST, MINUTE])
        assert await redis.driver.ttl(f"ratelimit:{{{subject}}}") == pytest.approx(61, abs=2)

    async def test_a_server_that_forgot_its_scripts_is_told_again(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str
    ) -> None:
        await limiter.take(subject, [MINUTE])
        await redis.driver.script_flush()
        assert (await limiter.take(subject, [MINUTE])).states[0].remaining == 3

    @pytest.mark.parametrize("is_known", [True, False], ids=["known script", "unknown script"])
    async def test_it_goes_together_with_others(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str, is_known: bool
    ) -> None:
        await limiter.take(subject, [MINUTE])
        if not is_known:
            await redis.driver.script_flush()
        other = redis.request(command("SET", f"other:{subject}", "value", "EX", 60))
        _, *taken = await together(other, limiter.take(subject, [MINUTE]), limiter.take(subject, [MINUTE]))
        assert [one.states[0].remaining for one in taken] == [3, 2]

    async def test_an_error_in_a_script_is_not_taken_for_an_answer(self, redis: RedisClient, subject: str) -> None:
        broken = Script("return redis.call('LPUSH', KEYS[1])").call([subject])
        with pytest.raises(ResponseError, match="(?i)wrong number of arg"):
            await redis.request(broken)


class TestMemorySlidingWindow(SlidingWindowContract):
    """The Redis inside of the process."""

    @pytest.fixture()
    async def redis(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as redis:
            yield redis


class TestRealSlidingWindow(SlidingWindowContract):
    """A Redis server."""

    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis:
            await redis.ping()
            yield redis

    async def test_it_asks_the_server_nothing_beforehand(
        self, limiter: SlidingWindow, redis: RedisClient, subject: str
    ) -> None:
        await limiter.take(subject, [MINUTE])
        await redis.driver.config_resetstat()
        await limiter.take(subject, [MINUTE])
        commands = set(await redis.driver.info("commandstats"))
        assert "cmdstat_evalsha" in commands
        assert [name for name in commands if name.startswith("cmdstat_script")] == []


async def test_without_a_server_it_is_unavailable() -> None:
    async with open_redis(RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})) as redis:
        with pytest.raises(StoreUnavailable):
            await SlidingWindow(redis).take("test:none", [MINUTE])


@pytest.mark.parametrize(("limit", "period"), [(0, timedelta(seconds=1)), (1, NOTHING)], ids=["limit", "period"])
def test_a_window_without_places_or_length_is_refused(limit: int, period: timedelta) -> None:
    with pytest.raises(ValueError, match="at least"):
        Window(limit, period)


async def test_no_windows_are_refused() -> None:
    async with open_memory_redis() as redis:
        with pytest.raises(ValueError, match="no windows"):
            SlidingWindow(redis).take("test:none", [])
