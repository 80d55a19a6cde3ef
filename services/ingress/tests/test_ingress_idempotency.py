"""Idempotency-Key: a request that is sent again is no second message, whatever died in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from fakeredis import FakeServer

from eai_common.broker import DeadLetterReason, Outgoing, Unconfirmed
from eai_common.broker.memory import MemoryBroker
from eai_common.clock import SystemClock
from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, open_memory_redis, open_redis
from eai_common.testing import LoopClock, eventually, pass_time
from eai_common.topology import Topology
from eai_ingress.testing import BODY, PATH, ROUTER, Ingress, World, open_ingress

REPLAYED = "idempotent-replayed"


@pytest.fixture()
async def ingress() -> AsyncIterator[Ingress]:
    async with open_ingress() as ingress:
        yield ingress


def ids_in(broker: MemoryBroker) -> list[str | None]:
    return [message.message_id for message in broker.contents(ROUTER)]


async def keys_of(redis: RedisClient, pattern: str) -> list[Any]:
    return [key async for key in redis.driver.scan_iter(pattern)]


def in_work(ingress: Ingress) -> float:
    """How many requests it has not answered yet."""
    return ingress.metrics.registry.get_sample_value("http_requests_in_flight") or 0.0


# What a client sees


async def test_the_same_request_again_gets_the_first_answer_again(ingress: Ingress) -> None:
    first, second = [await ingress.post(Idempotency_Key="k") for _ in range(2)]
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.headers["location"] == second.headers["location"]
    assert (first.headers.get(REPLAYED), second.headers.get(REPLAYED)) == (None, "true")
    assert ids_in(ingress.broker) == [first.json()["message_id"]]


async def test_the_same_json_written_otherwise_is_the_same_request(ingress: Ingress) -> None:
    body = {**BODY, "metadata": {"a": 1, "b": [2]}}
    turned_around = dict(reversed([*body.items()])) | {"metadata": {"b": [2], "a": 1}}
    answers = [
        await ingress.client.post(
            PATH, content=content, headers={"Content-Type": "application/json", "Idempotency-Key": "k"}
        )
        for content in (orjson.dumps(body), orjson.dumps(turned_around, option=orjson.OPT_INDENT_2))
    ]
    assert answers[0].content == answers[1].content
    assert len(ids_in(ingress.broker)) == 1


async def test_the_key_with_another_request_is_refused(ingress: Ingress) -> None:
    await ingress.post(Idempotency_Key="k")
    answer = await ingress.post({**BODY, "message": "Tchau"}, Idempotency_Key="k")
    assert (answer.status_code, answer.json()["error"]) == (422, "Idempotency key reused")
    assert len(ids_in(ingress.broker)) == 1


async def test_a_replay_leaves_no_status_of_a_message_that_never_was(ingress: Ingress) -> None:
    for body in (BODY, BODY, {**BODY, "message": "Tchau"}):
        await ingress.post(body, Idempotency_Key="k")
    assert len(await keys_of(ingress.redis, "task:status:*")) == 1


async def test_each_client_has_its_own_keys() -> None:
    async with open_ingress(API_TOKEN="one,two") as ingress:
        answers = [await ingress.post(Idempotency_Key="k", Authorization=f"Bearer {token}") for token in ("one", "two")]
    assert answers[0].json()["message_id"] != answers[1].json()["message_id"]


async def test_no_key_in_redis_holds_a_token() -> None:
    async with open_ingress(API_TOKEN="hunter2") as ingress:
        await ingress.post(Idempotency_Key="k", Authorization="Bearer hunter2")
        (key,) = await keys_of(ingress.redis, "idem:*")
    assert (b"hunter2" in key, key.endswith(b":k")) == (False, True)


async def test_a_key_is_kept_for_as_long_as_the_setting_says() -> None:
    async with open_ingress(IDEMPOTENCY_TTL="1h") as ingress:
        await ingress.post(Idempotency_Key="k")
        (key,) = await keys_of(ingress.redis, "idem:*")
        assert 3500 < await ingress.redis.driver.ttl(key) <= 3600


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("a", 202),
        ("!~{}:*", 202),
        ("x" * 255, 202),
        ("", 400),
        ("x" * 256, 400),
        ("a b", 400),
        ("a\tb", 400),
        ("\x7f", 400),
        ("é", 400),
    ],
    ids=ascii,
)
async def test_a_key_is_at_most_255_visible_ascii_characters(ingress: Ingress, key: str, status: int) -> None:
    headers = {b"Content-Type": b"application/json", b"Idempotency-Key": key.encode()}
    answer = await ingress.client.post(PATH, content=orjson.dumps(BODY), headers=headers)
    assert answer.status_code == status
    assert [detail["field"] for detail in answer.json().get("details", [])] == ["Idempotency-Key"][: status == 400]


async def test_fifty_requests_at_once_on_two_replicas_are_one_message_and_fifty_equal_answers(
    redis_server: Any,
) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})))
        await redis.driver.flushall()
        broker = await stack.enter_async_context(MemoryBroker(Topology(), SystemClock()))
        may_publish = asyncio.Event()
        slow = Trouble(broker, may_publish)
        world = World(redis, broker, seen_as=lambda _: slow)
        replicas = [await stack.enter_async_context(open_ingress(world)) for _ in range(2)]
        requests = [asyncio.create_task(replicas[number % 2].post(Idempotency_Key="k")) for number in range(50)]
        await eventually(lambda: slow.publishes == 1 and sum(map(in_work, replicas)) == 50)
        may_publish.set()
        answers = await asyncio.gather(*requests)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert [answer.headers.get(REPLAYED) for answer in answers].count(None) == 1
        assert ids_in(broker) == [answers[0].json()["message_id"]]


# What goes wrong


@dataclass
class Trouble:
    """A broker that is slow, that loses its confirms, or under which the process dies."""

    broker: MemoryBroker
    may_publish: asyncio.Event | None = None  # None: at once
    loses_confirms: bool = False
    publishes: int = 0

    @property
    def is_ready(self) -> bool:
        return self.broker.is_ready

    @property
    def ladder(self) -> tuple[timedelta, ...]:
        return self.broker.ladder

    async def depth(self, queue: str) -> int:
        return await self.broker.depth(queue)

    def consume(self, queue: str, *, prefetch: int) -> Any:
        raise NotImplementedError

    async def dead_letter(self, queue: str, message: Outgoing, reason: DeadLetterReason) -> None:
        raise NotImplementedError

    async def publish(self, message: Outgoing) -> None:
        self.publishes += 1
        if self.may_publish is not None:
            await self.may_publish.wait()
        await self.broker.publish(message)
        if self.loses_confirms:
            raise Unconfirmed("the connection was lost before the confirm")


def hangs(broker: MemoryBroker) -> Trouble:
    return Trouble(broker, may_publish=asyncio.Event())


async def test_while_the_broker_is_down_nothing_of_a_request_is_left_behind(ingress: Ingress) -> None:
    ingress.broker.go_down()
    answers = await asyncio.gather(*(ingress.post(Idempotency_Key="k") for _ in range(3)))
    assert {answer.status_code for answer in answers} == {503}
    left = [await keys_of(ingress.redis, pattern) for pattern in ("idem:*", "task:status:*")]
    assert left == [[], []]


async def test_a_request_that_the_broker_refused_is_taken_when_it_is_sent_again(ingress: Ingress) -> None:
    ingress.broker.go_down()
    await ingress.post(Idempotency_Key="k")
    ingress.broker.come_back()
    again = [await ingress.post(Idempotency_Key="k") for _ in range(2)]
    assert [answer.status_code for answer in again] == [202, 202]
    assert ids_in(ingress.broker) == [again[0].json()["message_id"]] == [again[1].json()["message_id"]]


async def test_after_a_lost_confirm_the_request_sent_again_goes_under_the_same_id() -> None:
    troubles: list[Trouble] = []

    def seen(broker: MemoryBroker) -> Any:
        troubles.append(Trouble(broker, loses_confirms=True))
        return troubles[0]

    async with open_ingress(World(seen_as=seen)) as ingress:
        assert (await ingress.post(Idempotency_Key="k")).status_code == 503
        troubles[0].loses_confirms = False
        answer = await ingress.post(Idempotency_Key="k")
        assert answer.status_code == 202
        assert ids_in(ingress.broker) == [answer.json()["message_id"]] * 2  # the stages do it once


@pytest.mark.virtual_time()
async def test_a_process_that_died_before_it_published_leaves_its_id_to_the_next(ingress: Ingress) -> None:
    dying = World(ingress.redis, ingress.broker, hangs, LoopClock())
    async with open_ingress(dying) as killed:
        request = asyncio.create_task(killed.post(Idempotency_Key="k"))
        await eventually(lambda: keys_of(ingress.redis, "task:status:*"))
        statuses = await keys_of(ingress.redis, "task:status:*")
        request.cancel()
        await asyncio.wait({request})
    await pass_time(timedelta(minutes=10))
    async with open_ingress(World(ingress.redis, ingress.broker, clock=LoopClock())) as later:
        answers = await asyncio.gather(*(later.post(Idempotency_Key="k") for _ in range(5)))
    (message_id,) = {answer.json()["message_id"] for answer in answers}
    assert ids_in(ingress.broker) == [message_id]
    assert statuses == [f"task:status:{{{message_id}}}".encode()]


async def test_who_waits_for_a_process_that_died_takes_over_from_it(ingress: Ingress) -> None:
    dying = World(ingress.redis, ingress.broker, hangs)
    async with open_ingress(dying) as killed:
        request = asyncio.create_task(killed.post(Idempotency_Key="k"))
        await eventually(lambda: keys_of(ingress.redis, "idem:*"))
        (held,) = await keys_of(ingress.redis, "idem:*")
        waiting = [asyncio.create_task(ingress.post(Idempotency_Key="k")) for _ in range(5)]
        request.cancel()
        await asyncio.wait({request})
        await ingress.redis.driver.hset(held, "lease", 0)
        answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {202}
    assert ids_in(ingress.broker) == [answers[0].json()["message_id"]]


async def test_without_redis_a_request_with_a_key_is_taken_all_the_same() -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(settings) as nowhere, open_ingress(World(nowhere)) as ingress:
        assert (await ingress.post(Idempotency_Key="k")).status_code == 202


@pytest.mark.virtual_time()
async def test_who_waits_when_redis_goes_is_told_to_come_again_as_the_message_may_be_there() -> None:
    server = FakeServer()
    async with open_memory_redis(server) as redis:
        may_publish = asyncio.Event()
        world = World(redis, seen_as=lambda broker: Trouble(broker, may_publish))
        async with open_ingress(world) as ingress:
            first = asyncio.create_task(ingress.post(Idempotency_Key="k"))
            await eventually(lambda: keys_of(redis, "idem:*"))
            waiting = asyncio.create_task(ingress.post(Idempotency_Key="k"))
            await pass_time(timedelta(milliseconds=100))
            server.connected = False
            may_publish.set()
            answers: list[httpx.Response] = [await first, await waiting]
            assert [answer.status_code for answer in answers] == [202, 503]
            assert len(ids_in(ingress.broker)) == 1
