"""A Redis client whose callers share round trips: it answers as the client that it stands on, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ResponseError

from eai_common.settings import RedisSettings
from eai_common.store import Redis, StoreUnavailable, open_redis, open_shared_redis
from eai_common.store.scripts import Script

SECOND = timedelta(seconds=1)


@pytest.fixture()
async def alone(redis_server: Any) -> AsyncIterator[Redis]:
    async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as client:
        await client.flushdb()
        yield client


@pytest.fixture()
async def shared(alone: Redis) -> AsyncIterator[Redis]:
    async with open_shared_redis(alone, SECOND) as client:
        yield client


async def test_replies_are_those_of_the_client(shared: Redis) -> None:
    assert await shared.set("a", "1", px=10_000, nx=True) is True
    assert await shared.set("a", "2", nx=True) is None
    assert await shared.get("a") == b"1"
    await shared.hset("h", mapping={"x": "1", "y": "2"})
    assert await shared.hgetall("h") == {b"x": b"1", b"y": b"2"}


async def test_an_error_reply_reaches_the_caller_that_caused_it_and_no_other(shared: Redis) -> None:
    outcomes = await asyncio.gather(
        shared.set("a", "text"), shared.lpush("a", "x"), shared.get("a"), return_exceptions=True
    )
    assert (outcomes[0], isinstance(outcomes[1], ResponseError), outcomes[2]) == (True, True, b"text")


async def test_a_pipelines_replies_come_together_in_order(shared: Redis) -> None:
    async with shared.pipeline(transaction=False) as pipeline:
        pipeline.set("a", "1")
        pipeline.get("a")
        pipeline.pttl("nothing")
        assert await pipeline.execute() == [True, b"1", -2]


@pytest.mark.parametrize("raises", [True, False])
async def test_a_pipeline_raises_its_first_error_or_hands_it_over(shared: Redis, raises: bool) -> None:
    async with shared.pipeline(transaction=False) as pipeline:
        pipeline.set("a", "text")
        pipeline.lpush("a", "x")
        if raises:
            with pytest.raises(ResponseError):
                await pipeline.execute()
        else:
            assert [type(reply).__name__ for reply in await pipeline.execute(raise_on_error=False)] == [
                "bool",
                "ResponseError",
            ]


async def test_a_transaction_is_one(shared: Redis) -> None:
    async with shared.pipeline(transaction=True) as pipeline:
        pipeline.incr("n")
        pipeline.incr("n")
        assert await pipeline.execute() == [1, 2]


async def test_scripts_that_the_server_does_not_know_yet_run(shared: Redis) -> None:
    await shared.script_flush()
    assert await shared.register_script("return ARGV[1]")(args=["a"]) == b"a"
    assert await Script("return ARGV[2]").call(["k"], ["a", "b"]).run(shared) == b"b"


async def test_what_is_asked_side_by_side_travels_together(alone: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = 0

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return await execute(*args, **options)

    pipeline_type = type(alone.pipeline())
    execute = pipeline_type._execute_pipeline
    monkeypatch.setattr(pipeline_type, "_execute_pipeline", counted)
    async with open_shared_redis(alone, SECOND) as shared:
        await asyncio.gather(*(shared.set(f"k{number}", number) for number in range(100)))
    assert trips <= 2


async def test_an_outage_is_unavailable(own_redis: Any) -> None:
    async with (
        open_redis(RedisSettings.read({"REDIS_URL": own_redis.url})) as alone,
        open_shared_redis(alone, SECOND) as shared,
    ):
        own_redis.kill()
        try:
            with pytest.raises(StoreUnavailable):
                await shared.get("a")
            async with shared.pipeline(transaction=False) as pipeline:
                pipeline.get("a")
                with pytest.raises(StoreUnavailable):
                    await pipeline.execute()
        finally:
            own_redis.start()
