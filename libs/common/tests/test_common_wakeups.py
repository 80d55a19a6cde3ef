"""Waiting for a message: woken by what other processes write, through one subscription, and never asleep for good."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import RedisClient, Subscription, TaskStore, Wakeups, open_memory_redis, open_redis, open_wakeups
from eai_common.testing import eventually, run_ready

AT = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
SETTINGS = TaskSettings.read({})


async def finish(redis: RedisClient, message_id: str) -> None:
    await TaskStore(redis, SETTINGS).finish(message_id, "completed", b"{}", at=AT, accepted_at=AT)


async def subscribers(redis: RedisClient) -> int:
    ((_, count),) = await redis.driver.pubsub_numsub("wakeups")
    return int(count)


async def until_it_listens(subscription: Subscription) -> None:
    """The subscription stands: that itself is a reason to look."""
    assert await subscription.changed(within_s=10)


class WakeupsContract:
    """A test class gives `redis`."""

    @pytest.fixture()
    def message_id(self) -> str:
        return str(uuid.uuid4())

    @pytest.fixture()
    async def wakeups(self, redis: RedisClient) -> AsyncIterator[Wakeups]:
        async with open_wakeups(redis) as wakeups:
            yield wakeups

    async def test_the_end_of_a_message_wakes_all_who_wait_for_it_and_nobody_else(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        with (
            wakeups.subscribe(message_id) as one,
            wakeups.subscribe(message_id) as two,
            wakeups.subscribe(str(uuid.uuid4())) as other,
        ):
            for subscription in (one, two, other):
                await until_it_listens(subscription)
            woken = asyncio.gather(*(subscription.changed(within_s=10) for subscription in (one, two)))
            not_woken = asyncio.ensure_future(other.changed(within_s=0.3))
            await finish(redis, message_id)
            assert (await woken, await not_woken) == ([True, True], False)

    async def test_what_happens_between_the_look_and_the_wait_is_not_missed(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        with wakeups.subscribe(message_id) as subscription, wakeups.subscribe(message_id) as witness:
            await until_it_listens(subscription)
            await until_it_listens(witness)
            await finish(redis, message_id)
            assert await witness.changed(within_s=10)  # so the news has come, while `watch` was not waiting
            assert await subscription.changed(within_s=0)

    async def test_who_comes_before_the_subscription_stands_looks_once_it_does(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        with wakeups.subscribe(message_id) as subscription:
            await finish(redis, message_id)
            assert await subscription.changed(within_s=10)

    async def test_moves_wake_those_who_asked_for_them(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        tasks = TaskStore(redis, SETTINGS)
        with wakeups.subscribe(message_id, wants_moves=True) as every, wakeups.subscribe(message_id) as last:
            await until_it_listens(every)
            await until_it_listens(last)
            await tasks.note_queued(message_id, stage="agent-router", at=AT)
            assert await every.changed(within_s=10)
            assert not await last.changed(within_s=0.1)

    async def test_a_try_in_the_same_stage_is_no_move(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        tasks = TaskStore(redis, SETTINGS)
        await tasks.note_queued(message_id, stage="agent-router", at=AT)
        with wakeups.subscribe(message_id, wants_moves=True) as subscription:
            await until_it_listens(subscription)
            await tasks.note_started(message_id, stage="agent-router", at=AT, attempt=1)
            await tasks.note_started(message_id, stage="agent-router", at=AT, attempt=2)
            await tasks.note_started(message_id, stage="formatter", at=AT, attempt=1)
            assert await subscription.changed(within_s=10)
            assert not await subscription.changed(within_s=0.1)

    async def test_when_the_time_is_up_nothing_has_changed(self, wakeups: Wakeups, message_id: str) -> None:
        with wakeups.subscribe(message_id) as subscription:
            await until_it_listens(subscription)
            assert not await subscription.changed(within_s=0.05)

    async def test_a_drain_lets_all_go_at_once_and_nobody_wait_any_more(
        self, wakeups: Wakeups, message_id: str
    ) -> None:
        with wakeups.subscribe(message_id) as subscription:
            await until_it_listens(subscription)
            waiting = asyncio.ensure_future(subscription.changed(within_s=60))
            await run_ready()
            wakeups.end_waiting()
            async with asyncio.timeout(5):
                assert (await waiting, await subscription.changed(within_s=60)) == (False, False)

    async def test_who_has_left_is_forgotten(self, wakeups: Wakeups, message_id: str) -> None:
        with wakeups.subscribe(message_id), wakeups.subscribe(message_id):
            held = len(wakeups)
        assert (held, len(wakeups), wakeups._subscriptions) == (2, 0, {})

    async def test_a_process_subscribes_once_and_only_when_somebody_waits(
        self, redis: RedisClient, wakeups: Wakeups
    ) -> None:
        before = await subscribers(redis)
        async with AsyncExitStack() as stack:
            subscriptions = [stack.enter_context(wakeups.subscribe(str(uuid.uuid4()))) for _ in range(50)]
            for subscription in subscriptions:
                await until_it_listens(subscription)
            assert (before, await subscribers(redis)) == (0, 1)

    async def test_every_process_is_woken(self, redis: RedisClient, wakeups: Wakeups, message_id: str) -> None:
        async with open_wakeups(redis) as others:
            with wakeups.subscribe(message_id) as here, others.subscribe(message_id) as there:
                await until_it_listens(here)
                await until_it_listens(there)
                await finish(redis, message_id)
                assert await here.changed(within_s=10)
                assert await there.changed(within_s=10)


class TestMemoryWakeups(WakeupsContract):
    """The Redis inside of the process."""

    @pytest.fixture()
    async def redis(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as redis:
            yield redis


class TestRealWakeups(WakeupsContract):
    """A Redis server, which can also be lost."""

    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url, "REDIS_POOL_SIZE": "2"})) as redis:
            yield redis

    async def test_the_subscription_is_beside_the_connections_that_the_setting_allows(
        self, redis_server: Any, message_id: str
    ) -> None:
        settings = RedisSettings.read({"REDIS_URL": redis_server.url, "REDIS_POOL_SIZE": "1"})
        async with open_redis(settings) as redis, open_wakeups(redis) as wakeups:
            with wakeups.subscribe(message_id) as subscription:
                await until_it_listens(subscription)
                await finish(redis, message_id)
                assert await subscription.changed(within_s=10)

    async def test_after_the_subscription_was_lost_every_waiter_looks_once(
        self, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        with wakeups.subscribe(message_id) as subscription:
            await until_it_listens(subscription)
            await redis.driver.client_kill_filter(_type="pubsub")
            assert await subscription.changed(within_s=10)
            await finish(redis, message_id)
            assert await subscription.changed(within_s=10)

    async def test_after_an_outage_every_waiter_looks_once(
        self, own_redis: Any, redis: RedisClient, wakeups: Wakeups, message_id: str
    ) -> None:
        with wakeups.subscribe(message_id) as subscription:
            await until_it_listens(subscription)
            own_redis.kill()
            try:
                assert not await subscription.changed(within_s=0.5)
            finally:
                own_redis.start()
            assert await subscription.changed(within_s=20)

    async def test_a_server_that_has_gone_silent_is_given_up(self, redis: RedisClient, message_id: str) -> None:
        async with open_wakeups(redis, silence=timedelta(seconds=0.2)) as wakeups:
            with wakeups.subscribe(message_id) as subscription:
                await until_it_listens(subscription)
                quiet = await subscription.changed(within_s=1)  # a server that is merely idle answers, and is kept
                before = await pubsub_client(redis)
                await redis.driver.client_pause(1000, all=True)
                assert not quiet
                assert await subscription.changed(within_s=20)
                assert await pubsub_client(redis) != before

    async def test_a_redis_user_who_may_not_publish_still_stores_results(
        self, redis: RedisClient, message_id: str
    ) -> None:
        send: Any = redis.driver.execute_command
        await send("ACL", "SETUSER", "quiet", "on", "nopass", "~*", "+@all", "resetchannels")
        try:
            await send("AUTH", "quiet", "x")
            await finish(redis, message_id)
            view = await TaskStore(redis, SETTINGS).read(message_id)
        finally:
            await send("AUTH", "default", "x")
            await send("ACL", "DELUSER", "quiet")
        assert view.result == b"{}"

    async def test_a_redis_user_who_may_not_subscribe_is_told_so_and_not_asked_again_at_once(
        self, redis: RedisClient, redis_server: Any, message_id: str
    ) -> None:
        send: Any = redis.driver.execute_command
        await send("ACL", "SETUSER", "deaf", "on", ">x", "~*", "+@all", "resetchannels")
        url = redis_server.url.replace("redis://", "redis://deaf:x@")
        try:
            with capture_logs() as lines:
                async with open_redis(RedisSettings.read({"REDIS_URL": url})) as deaf, open_wakeups(deaf) as wakeups:
                    with wakeups.subscribe(message_id) as subscription:
                        assert not await subscription.changed(within_s=0.5)
        finally:
            await send("ACL", "DELUSER", "deaf")
        assert [line["event"] for line in lines] == ["wakeups_refused"]


async def pubsub_client(redis: RedisClient) -> str:
    found: list[str] = []

    async def is_there() -> bool:
        found[:] = [client["id"] for client in await redis.driver.client_list(_type="pubsub")]
        return len(found) == 1

    await eventually(is_there)
    return found[0]
