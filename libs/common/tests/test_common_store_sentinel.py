"""The stores on a Redis whose primary changes under them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

from eai_common.settings import RedisSettings, SettingsError
from eai_common.store import RedisClient, Script, StoreUnavailable, command, open_redis, open_wakeups
from eai_common.store.errors import map_redis_errors
from eai_common.testing import eventually

_SET = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)")


@pytest.fixture()
async def client(redis_with_sentinel: Any) -> AsyncIterator[RedisClient]:
    settings = RedisSettings.read({"REDIS_URL": redis_with_sentinel.url, "REDIS_POOL_SIZE": "3", "REDIS_TIMEOUT": "1s"})
    async with open_redis(settings) as client:
        yield client


async def is_on_the_second(redis_with_sentinel: Any, key: str) -> bool:
    """Whether the second server has the key."""
    async with redis.asyncio.Redis.from_url(redis_with_sentinel.second.url) as second:
        return bool(await second.exists(key))


async def once(condition: Callable[[], Awaitable[bool]], *, within_s: float = 30) -> None:
    """Return when it holds; a Redis that is away says no."""
    await eventually(lambda: _holds(condition), within_s=within_s)


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        with map_redis_errors():
            return await condition()
    except StoreUnavailable:
        return False


async def test_a_dead_primarys_replica_takes_over_with_what_was_stored_and_wakes_who_waits(
    client: RedisClient, redis_with_sentinel: Any
) -> None:
    await client.driver.set("kept", "value", ex=60)
    await once(lambda: is_on_the_second(redis_with_sentinel, "kept"))
    async with open_wakeups(client) as wakeups:
        with wakeups.subscribe("an id") as subscription:
            assert await subscription.changed(within_s=5)  # the subscription stands
            redis_with_sentinel.first.kill()
            with pytest.raises(StoreUnavailable):
                await client.request(command("GET", "kept"))

            async def is_written_and_heard() -> bool:
                await client.request(_SET.call(["written"], ["after"]))
                await client.driver.publish("wakeups", "Fan id")
                return await subscription.changed(within_s=0.2)

            await once(is_written_and_heard)

    async def has_what_was_stored() -> bool:
        return await client.driver.mget("kept", "written") == [b"value", b"after"]

    await once(has_what_was_stored)
    assert await is_on_the_second(redis_with_sentinel, "written")


async def test_a_primary_that_has_lost_its_replicas_is_an_outage_and_no_wrong_command(
    client: RedisClient, redis_with_sentinel: Any
) -> None:
    await client.driver.config_set("min-replicas-max-lag", 1)
    await client.driver.config_set("min-replicas-to-write", 1)

    async def is_taken() -> bool:
        await client.request(command("SET", "written", "before", "EX", 60))
        return True

    await once(is_taken)
    redis_with_sentinel.second.kill()

    async def refuses() -> bool:
        try:
            await client.request(command("SET", "written", "after", "EX", 60))
        except StoreUnavailable as error:
            return "NOREPLICAS" in str(error)
        return False

    await once(refuses)


async def test_more_callers_than_connections_wait_for_one(client: RedisClient) -> None:
    await asyncio.gather(*(client.request(command("SET", f"key:{n}", n, "EX", 60)) for n in range(50)))


async def test_sentinels_that_are_away_or_know_no_such_name_are_an_outage(redis_with_sentinel: Any) -> None:
    for url in ("redis+sentinel://127.0.0.1:1/gateway", redis_with_sentinel.url.replace("/gateway", "/another")):
        async with open_redis(RedisSettings.read({"REDIS_URL": url})) as client:
            with pytest.raises(StoreUnavailable):
                await client.request(command("GET", "key"))


def test_the_address_names_sentinels_primary_and_database() -> None:
    address = RedisSettings.read({"REDIS_URL": "rediss+sentinel://a:1,b,[::1]:2/gateway/3"}).sentinels
    assert address is not None
    assert address.sentinels == (("a", 1), ("b", 26379), ("::1", 2))
    assert (address.name, address.database, address.with_tls) == ("gateway", 3, True)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:26379",
        "redis+sentinel:///gateway",
        "redis+sentinel://a:port/gateway",
        "redis+sentinel://:password@a:26379/gateway",
    ],
)
def test_an_address_of_sentinels_that_cannot_be_read_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: got a value that is not shown") as refused:
        RedisSettings.read({"REDIS_URL": url})
    assert "password@" not in str(refused.value)
