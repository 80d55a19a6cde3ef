"""What the router keeps of users and questions: the same in the process's own Redis and in a real one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakeredis import FakeServer

from eai_agent_router.conversations import ConversationStore
from eai_agent_router.threads import AgentIdCache, ThreadStore
from eai_common.messages import HistoryMessage
from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, StoreUnavailable, open_memory_redis, open_redis

AT = datetime(2026, 1, 1, 10, 30, 0, 123456, tzinfo=UTC)
LATER = AT + timedelta(seconds=90)
LONG = timedelta(minutes=5)


@pytest.fixture(params=["memory", "real"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisClient]:
    if request.param == "memory":
        async with open_memory_redis() as redis:
            yield redis
    else:
        server: Any = request.getfixturevalue("redis_server")
        async with open_redis(RedisSettings.read({"REDIS_URL": server.url})) as redis:
            yield redis


@pytest.fixture()
def user_number() -> str:
    return f"+55{uuid.uuid4().int % 10**11:011d}"


@pytest.fixture()
def message_id() -> str:
    return str(uuid.uuid4())


# Users


async def test_a_thread_begins_with_its_first_message_and_counts_each_once(
    redis: RedisClient, user_number: str
) -> None:
    threads = ThreadStore(redis, LONG)
    for message_id, at in (("one", AT), ("two", AT), ("one", LATER)):
        await threads.touch(user_number, message_id, at=at)
    assert await redis.driver.hgetall(f"thread:{{{user_number}}}") == {
        b"thread_id": user_number.encode(),
        b"user_id": user_number.encode(),
        b"created_at": b"2026-01-01T10:30:00.123Z",
        b"last_used": b"2026-01-01T10:31:30.123Z",
        b"message_count": b"2",
        b"counted": b" one two",
    }


async def test_a_users_agent_is_remembered(redis: RedisClient, user_number: str) -> None:
    agents = AgentIdCache(redis, LONG)
    before = await agents.get(user_number)
    await agents.put(user_number, "agent-1")
    assert (before, await agents.get(user_number)) == (None, "agent-1")


async def test_a_conversation_is_given_in_order_without_the_turn_in_work(redis: RedisClient, user_number: str) -> None:
    conversations = ConversationStore(redis, LONG)
    for number in (1, 2, 3):
        turn = HistoryMessage(content=f"pergunta {number}\n", role="human")
        await conversations.append(user_number, f"id-{number}", (turn,))
    read = await conversations.read(user_number, without="id-3")
    assert [message.content for message in read] == ["pergunta 1\n", "pergunta 2\n"]


async def test_a_turn_is_added_once_however_often_it_is_delivered(redis: RedisClient, user_number: str) -> None:
    conversations = ConversationStore(redis, LONG)
    turn = (HistoryMessage(content="Oi", role="human"), HistoryMessage(content="Olá", role="ai"))
    for _ in range(3):
        await conversations.append(user_number, "id-1", turn)
    assert await conversations.read(user_number, without="") == turn


async def test_a_conversation_keeps_its_last_hundred_turns(redis: RedisClient, user_number: str) -> None:
    conversations = ConversationStore(redis, LONG)
    for number in range(105):
        await conversations.append(user_number, f"{number:03d}", (HistoryMessage(content=str(number), role="human"),))
    read = await conversations.read(user_number, without="")
    assert [message.content for message in read] == [str(number) for number in range(5, 105)]


# Keys and outages


async def use_all(redis: RedisClient, user_number: str, message_id: str) -> list[Callable[[], Awaitable[Any]]]:
    threads, agents = ThreadStore(redis, LONG), AgentIdCache(redis, LONG)
    conversations, turn = ConversationStore(redis, LONG), (HistoryMessage(content="Oi", role="human"),)
    return [
        lambda: threads.touch(user_number, message_id, at=AT),
        lambda: agents.put(user_number, "agent-1"),
        lambda: agents.get(user_number),
        lambda: conversations.append(user_number, message_id, turn),
        lambda: conversations.read(user_number, without=""),
    ]


async def test_every_key_has_a_time_to_live(redis: RedisClient, user_number: str, message_id: str) -> None:
    for use in await use_all(redis, user_number, message_id):
        await use()
    keys = [*await redis.driver.keys(f"*{user_number}*"), *await redis.driver.keys(f"*{message_id}*")]
    assert len(keys) == 3
    assert all([0 < await redis.driver.ttl(key) <= LONG.total_seconds() for key in keys])


async def test_while_the_server_is_gone_everything_is_unavailable(user_number: str, message_id: str) -> None:
    server = FakeServer()
    async with open_memory_redis(server) as redis:
        await redis.ping()
        server.connected = False
        for use in await use_all(redis, user_number, message_id):
            with pytest.raises(StoreUnavailable):
                await use()
