"""Long polls: answered as soon as there is something to say, and never kept waiting for nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, open_redis
from eai_common.testing import eventually
from eai_poller.testing import ACCEPTED, PATH, RESULT, Poller, open_poller


@pytest.fixture()
async def poller() -> AsyncIterator[Poller]:
    async with open_poller(is_served=True) as poller:
        yield poller


async def waits(poller: Poller, count: int = 1) -> None:
    await eventually(lambda: len(poller.wakeups) == count)


@pytest.mark.parametrize("wait", ["-1", "31", "x", "", "1.5", "1e1", "٣", "9999999999999999999"])
async def test_a_wait_that_is_no_whole_number_up_to_30_is_a_wrong_request(poller: Poller, wait: str) -> None:
    answer = await poller.get(poller.ids.message_id(), wait=wait)
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, "wait")


async def test_a_parameter_that_is_given_twice_is_a_wrong_request(poller: Poller) -> None:
    answer = await poller.client.get(f"{PATH}?message_id={uuid.uuid4()}&message_id={uuid.uuid4()}")
    assert answer.status_code == 400


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_long_poll_is_answered_when_the_result_comes(poller: Poller, status: str) -> None:
    message_id = poller.ids.message_id()
    began = time.monotonic()
    polling = asyncio.create_task(poller.get(message_id, wait=30))
    await waits(poller)
    await poller.finish(message_id, {**RESULT, "status": status})
    answer = await polling
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert time.monotonic() - began < 15


async def test_a_long_poll_is_answered_at_once_when_the_result_is_there(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    assert (await poller.get(message_id, wait=30)).status_code == 200


@pytest.mark.parametrize(("message_id", "status"), [(str(uuid.UUID(int=0)), 404), ("x", 400)])
async def test_for_what_will_never_come_nobody_waits(poller: Poller, message_id: str, status: int) -> None:
    assert (await poller.get(message_id, wait=30)).status_code == status


async def test_at_the_end_of_the_wait_the_message_is_still_processing(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.tasks.note_queued(message_id, stage="agent-router", at=ACCEPTED)
    began = time.monotonic()
    answer = await poller.get(message_id, wait=1)
    assert (answer.status_code, answer.json()["stage"]) == (202, "agent-router")
    assert 0.9 < time.monotonic() - began < 10


async def test_a_drain_answers_those_who_wait_at_once(poller: Poller) -> None:
    began = time.monotonic()
    polling = asyncio.create_task(poller.get(poller.ids.message_id(), wait=30))
    await waits(poller)
    poller.wakeups.end_waiting()
    assert ((await polling).status_code, time.monotonic() - began < 15) == (202, True)


async def test_beyond_the_most_that_may_wait_a_client_is_told_to_poll_without() -> None:
    async with open_poller(is_served=True, POLLER_MAX_WAITING="1") as poller:
        first = asyncio.create_task(poller.get(poller.ids.message_id(), wait=30))
        await waits(poller)
        second = await poller.get(poller.ids.message_id(), wait=30)
        stream = await poller.get(poller.ids.message_id(), accept="text/event-stream")
        plain = await poller.get(poller.ids.message_id())
        poller.wakeups.end_waiting()
        assert [one.status_code for one in (second, stream, plain, await first)] == [503, 503, 202, 202]
        assert second.headers["retry-after"] == "5"


async def test_a_client_that_leaves_makes_room_for_another(poller: Poller) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await poller.client.get(PATH, params={"message_id": poller.ids.message_id(), "wait": "30"}, timeout=0.3)
    await waits(poller, 0)


async def test_head_does_not_wait(poller: Poller) -> None:
    began = time.monotonic()
    answer = await poller.client.head(PATH, params={"message_id": poller.ids.message_id(), "wait": "30"})
    assert (answer.status_code, time.monotonic() - began < 15) == (202, True)


async def commands(redis: RedisClient) -> int:
    return int((await redis.driver.info("stats"))["total_commands_processed"])


async def is_quiet(redis: RedisClient) -> bool:
    """Whether nobody else asks it anything for a second."""
    before = await commands(redis)
    await asyncio.sleep(1)  # it counts what comes to it in real time
    return await commands(redis) == before + 1


async def test_waiting_asks_redis_nothing(redis_server: Any) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})))
        poller = await stack.enter_async_context(open_poller(redis, is_served=True))
        ids = [poller.ids.message_id() for _ in range(20)]
        polls = [asyncio.create_task(poller.get(message_id, wait=30)) for message_id in ids]
        await waits(poller, len(polls))
        await eventually(lambda: is_quiet(redis))  # once the looks that registering and subscribing cost are over
        for message_id in ids:
            await poller.finish(message_id, RESULT)
        assert {poll.status_code for poll in await asyncio.gather(*polls)} == {200}


async def test_a_message_that_ends_while_redis_restarts_is_answered(own_redis: Any) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(RedisSettings.read({"REDIS_URL": own_redis.url})))
        poller = await stack.enter_async_context(open_poller(redis, is_served=True))
        message_id = poller.ids.message_id()
        polling = asyncio.create_task(poller.get(message_id, wait=30))
        await waits(poller)
        own_redis.kill()
        own_redis.start()
        await poller.finish(message_id, RESULT)
        assert (await polling).status_code == 200
