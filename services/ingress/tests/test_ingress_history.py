"""POST /api/v1/message/webhook/update_history: the answer of the pipeline, when it comes in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from eai_common.clock import SystemClock
from eai_common.messages import HistoryUpdate, Outcome, decode
from eai_common.settings import RedisSettings
from eai_common.store import TaskStore, open_redis
from eai_ingress.testing import ROUTER, Ingress, World, open_ingress

PATH = "/api/v1/message/webhook/update_history"
MESSAGES = [{"content": "Oi", "role": "human"}, {"content": "Olá!", "role": "ai"}]
BODY: dict[str, Any] = {"user_number": "5521999990000", "messages": MESSAGES}


@pytest.fixture()
async def ingress() -> AsyncIterator[Ingress]:
    async with open_ingress(HISTORY_WAIT="20s") as ingress:
        yield ingress


async def post(ingress: Ingress, **fields: Any) -> httpx.Response:
    return await ingress.client.post(PATH, json={**BODY, **fields})


async def next_event(ingress: Ingress) -> HistoryUpdate:
    """What agent-router would get."""
    stop = asyncio.Event()
    async with ingress.broker.consume(ROUTER, prefetch=1) as consumer:
        async for delivery in consumer.until(stop):
            await delivery.ack()
            return decode(delivery.body, event_name=delivery.event, accepts=[HistoryUpdate], fallback_time=None)
    raise AssertionError("nothing came")


@asynccontextmanager
async def pipeline(ingress: Ingress, outcome: Outcome, result: Any) -> AsyncIterator[None]:
    """Ends the next message with this result, as the stages would."""

    async def work() -> None:
        event = await next_event(ingress)
        tasks, now = TaskStore(ingress.redis, ingress.settings.tasks), SystemClock().now()
        await tasks.finish(event.message_id, outcome, orjson.dumps(result), at=now, accepted_at=event.timestamp)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        yield


@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_what_became_of_it_is_the_answer(ingress: Ingress, outcome: Outcome) -> None:
    result: dict[str, Any] = {"status": outcome, "answer": {"messages": []}}
    async with pipeline(ingress, outcome, result):
        answer = await post(ingress)
    assert (answer.status_code, answer.json()) == (200, result)


async def test_when_it_takes_long_the_client_gets_an_id_to_poll() -> None:
    async with open_ingress(HISTORY_WAIT="100ms") as ingress:
        answer = await post(ingress)
        event = await next_event(ingress)
    endpoint = f"/api/v1/message/response?message_id={event.message_id}"
    assert (answer.status_code, answer.headers["location"]) == (202, endpoint)
    assert (answer.json()["message_id"], answer.json()["status"]) == (event.message_id, "queued")


async def test_all_that_was_sent_goes_to_the_agent_router() -> None:
    async with open_ingress(HISTORY_WAIT="100ms") as ingress:
        await post(ingress, metadata={"n": 1}, provider="google_agent_engine", reasoning_engine_id="42")
        event = await next_event(ingress)
    told = event.user_number, [one.model_dump() for one in event.messages], event.metadata
    assert told == ("+5521999990000", MESSAGES, {"n": 1})
    assert (event.provider, event.reasoning_engine_id) == ("google_agent_engine", "42")


async def test_an_update_has_its_place_among_the_users_messages() -> None:
    async with open_ingress(HISTORY_WAIT="50ms") as ingress:
        message_id = (await post(ingress)).json()["message_id"]
        assert await ingress.open_messages() == [message_id]


async def test_without_redis_it_is_accepted_and_not_waited_for() -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(settings) as nowhere, open_ingress(World(nowhere), HISTORY_WAIT="100ms") as ingress:
        assert (await post(ingress)).status_code == 202


async def test_while_the_broker_is_down_nothing_is_promised(ingress: Ingress) -> None:
    ingress.broker.go_down()
    answer = await post(ingress)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"user_number": "x"}, "user_number"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"content": "Oi"}]}, "messages.0.role"),
        ({"messages": [*MESSAGES, {"content": "Oi", "role": "system"}]}, "messages.2.role"),
        ({"messages": [{"content": "", "role": "ai"}]}, "messages.0.content"),
        ({"messages": [{"content": "x" * 16_385, "role": "ai"}]}, "messages.0.content"),
        ({"messages": MESSAGES * 101}, "messages"),
        ({"messages": [{"content": "a\0b", "role": "ai"}]}, "messages"),
        ({"metadata": {"a": "x" * 9000}}, "metadata"),
        ({"provider": "nobody"}, "provider"),
        ({"reasoning_engine_id": "../1"}, "reasoning_engine_id"),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_a_field_that_breaks_its_rule_is_refused_by_name(
    ingress: Ingress, fields: dict[str, Any], wrong: str
) -> None:
    answer = await post(ingress, **fields)
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.json()["details"]] == [wrong]


async def test_it_takes_the_role_of_a_sender_and_json() -> None:
    async with open_ingress(API_TOKEN="one") as ingress:
        stranger = await post(ingress)
        form = await ingress.client.post(PATH, data={"a": "b"}, headers={"Authorization": "Bearer one"})
    assert (stranger.status_code, form.status_code) == (401, 415)
