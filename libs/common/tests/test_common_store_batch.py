"""Shared round trips to Redis: who shares one, whose error is whose, and what an outage costs."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import ResponseError

from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import (
    Activity,
    ActivityStore,
    CommandBatcher,
    RedisClient,
    StoreUnavailable,
    TaskStore,
    open_batcher,
    open_memory_redis,
    open_redis,
)
from eai_common.store.batch import Command
from eai_common.store.scripts import Script
from eai_common.testing import eventually, run_ready

AT = datetime(2026, 1, 1, 10, 30, 0, 123000, tzinfo=UTC)
PING = Command(("PING",))
ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


def echo(word: str) -> Command:
    return Command(("ECHO", word))


class CountedRedis:
    """A client that counts its pipelines, and can hold them up."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.pipelines = 0
        self.may_send = asyncio.Event()
        self.may_send.set()

    def pipeline(self, *, transaction: bool) -> Any:
        self.pipelines += 1
        pipeline = self._redis.driver.pipeline(transaction=transaction)
        execute = pipeline.execute

        async def held_execute(*, raise_on_error: bool) -> list[Any]:
            await self.may_send.wait()
            return await execute(raise_on_error=raise_on_error)

        pipeline.execute = held_execute  # type: ignore[assignment, method-assign]
        return pipeline


class BatchContract:
    """What the batcher does with any Redis. A test class gives `redis`."""

    @pytest.fixture()
    def counted(self, redis: RedisClient) -> CountedRedis:
        return CountedRedis(redis)

    @pytest.fixture()
    async def batcher(self, counted: CountedRedis) -> AsyncIterator[CommandBatcher]:
        async with open_batcher(counted, timedelta(seconds=5)) as batcher:  # type: ignore[arg-type]
            yield batcher

    @pytest.fixture()
    def key(self) -> str:
        return f"test:{uuid.uuid4()}"

    async def test_replies_come_in_the_order_of_the_commands(self, batcher: CommandBatcher) -> None:
        assert await batcher.run(echo("a"), PING, echo("b")) == [b"a", True, b"b"]

    async def test_each_caller_gets_its_own_replies(self, batcher: CommandBatcher) -> None:
        words = [str(number) for number in range(2000)]
        replies = await asyncio.gather(*(batcher.run(echo(word), echo(word)) for word in words))
        assert replies == [[word.encode()] * 2 for word in words]

    async def test_callers_that_come_together_share_a_round_trip(
        self, batcher: CommandBatcher, counted: CountedRedis
    ) -> None:
        await asyncio.gather(*(batcher.run(PING) for _ in range(100)))
        assert counted.pipelines == 1

    async def test_callers_that_come_while_one_is_under_way_share_the_next(
        self, batcher: CommandBatcher, counted: CountedRedis
    ) -> None:
        counted.may_send.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(batcher.run(PING))
            await run_ready()
            for _ in range(50):
                group.create_task(batcher.run(PING))
            await run_ready()
            counted.may_send.set()
        assert counted.pipelines == 2

    async def test_one_callers_error_is_not_anothers(self, batcher: CommandBatcher, key: str) -> None:
        wrong = Command(("INCRBY", key, "x"))
        first, second, third = await asyncio.gather(
            batcher.run(echo("a")), batcher.run(wrong, PING), batcher.run(echo("b")), return_exceptions=True
        )
        assert (first, type(second), third) == ([b"a"], ResponseError, [b"b"])

    async def test_a_script_that_the_server_does_not_know_is_sent_to_it_once(
        self, batcher: CommandBatcher, counted: CountedRedis, redis: RedisClient, key: str
    ) -> None:
        await redis.driver.script_flush()
        for number in range(3):
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(batcher.run(ADD.call([key], [1]), PING))
            assert counted.pipelines == number + 2  # the first of them needed two
        assert await batcher.run(ADD.call([key], [1])) == [31]
        await redis.driver.delete(key)

    async def test_a_caller_that_is_cancelled_takes_nobody_with_it(
        self, batcher: CommandBatcher, counted: CountedRedis
    ) -> None:
        counted.may_send.clear()
        first = asyncio.create_task(batcher.run(echo("first")))
        await run_ready()
        waiting = [asyncio.create_task(batcher.run(echo(word))) for word in "abc"]
        await run_ready()
        first.cancel()
        waiting[1].cancel()
        counted.may_send.set()
        assert [await waiting[0], await waiting[2]] == [[b"a"], [b"c"]]

    async def test_once_closed_it_refuses_instead_of_waiting_for_ever(
        self, counted: CountedRedis, batcher: CommandBatcher
    ) -> None:
        counted.may_send.clear()
        async with open_batcher(counted) as other:  # type: ignore[arg-type]
            under_way = asyncio.create_task(other.run(PING))
            await run_ready()
            waiting = asyncio.create_task(other.run(PING))
            await run_ready()
        outcomes = await asyncio.gather(under_way, waiting, other.run(PING), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}

    async def test_more_callers_than_can_be_served_are_refused(
        self, batcher: CommandBatcher, counted: CountedRedis
    ) -> None:
        counted.may_send.clear()
        calls = [asyncio.create_task(batcher.run(PING)) for _ in range(10_001)]
        await eventually(lambda: calls[-1].done())
        counted.may_send.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(StoreUnavailable) == 1

    # What travels so

    async def test_a_queued_note_in_a_batch_is_the_same_as_one_alone(
        self, batcher: CommandBatcher, redis: RedisClient
    ) -> None:
        tasks = TaskStore(redis, TaskSettings.read({}))
        alone, together = str(uuid.uuid4()), str(uuid.uuid4())
        await tasks.note_queued(alone, stage="transcriber", at=AT)
        await batcher.run(tasks.note_queued_call(together, stage="transcriber", at=AT))
        views = [await tasks.read(message_id) for message_id in (alone, together)]
        assert views[0] == views[1]
        assert await redis.driver.pttl(f"task:status:{{{together}}}") > 0

    async def test_a_status_that_was_taken_back_is_unknown(self, batcher: CommandBatcher, redis: RedisClient) -> None:
        tasks, message_id = TaskStore(redis, TaskSettings.read({})), str(uuid.uuid4())
        await tasks.note_queued(message_id, stage="transcriber", at=AT)
        await batcher.run(tasks.forget_command(message_id))
        assert (await tasks.read(message_id)).status is None

    async def test_a_users_last_message_is_known_for_a_while(self, batcher: CommandBatcher, redis: RedisClient) -> None:
        activity, user = ActivityStore(redis, timedelta(hours=1)), f"+{uuid.uuid4().int % 10**12}"
        assert await activity.read(user) is None
        await activity.note(user, at=AT)
        await batcher.run(activity.note_command(user, at=AT + timedelta(minutes=1)))
        found = await activity.read(user)
        assert isinstance(found, Activity)
        assert found.at == AT + timedelta(minutes=1)
        assert timedelta(minutes=59) < found.kept_for <= timedelta(hours=1)


class TestMemoryBatch(BatchContract):
    """The Redis inside of the process."""

    @pytest.fixture()
    async def redis(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as redis:
            yield redis


class TestRealBatch(BatchContract):
    """A Redis server."""

    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis:
            yield redis

    async def test_an_outage_is_waited_for_once_and_its_end_is_noticed(
        self, redis: RedisClient, own_redis: Any
    ) -> None:
        async with open_batcher(redis.driver) as batcher:
            assert await batcher.run(PING) == [True]
            own_redis.kill()
            try:
                with pytest.raises(StoreUnavailable):
                    await batcher.run(PING)
                assert batcher.is_down
                with pytest.raises(StoreUnavailable, match="a moment ago"):
                    await batcher.run(PING)
            finally:
                own_redis.start()
            await eventually(lambda: not batcher.is_down)
            assert await batcher.run(PING) == [True]


@pytest.fixture()
def silent_server() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_server_that_does_not_answer_costs_its_first_callers_half_a_second_and_the_next_nothing(
    silent_server: str,
) -> None:
    settings = RedisSettings.read({"REDIS_URL": silent_server, "REDIS_TIMEOUT": "1h"})
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        batcher = await stack.enter_async_context(open_batcher(redis.driver))
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.5 s"):
            await batcher.run(PING)
        outcomes = await asyncio.gather(*(batcher.run(PING) for _ in range(100)), return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"Redis: out of reach a moment ago"}
