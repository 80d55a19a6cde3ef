"""The stream of Server-Sent Events: every stage once, the result last, and again from where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from eai_common.settings import RedisSettings
from eai_common.store import open_redis
from eai_common.testing import eventually
from eai_poller.events import event
from eai_poller.testing import ACCEPTED, PATH, RESULT, Poller, open_poller


@dataclass
class Event:
    """One event as a browser would hand it out."""

    id: str
    name: str
    data: Any


@pytest.fixture()
async def poller() -> AsyncIterator[Poller]:
    async with open_poller(is_served=True) as poller:
        yield poller


@asynccontextmanager
async def stream(poller: Poller, message_id: str, **headers: str) -> AsyncIterator[httpx.Response]:
    told = {"Accept": "text/event-stream", **headers}
    async with (
        asyncio.timeout(30),
        poller.client.stream("GET", PATH, params={"message_id": message_id}, headers=told) as response,
    ):
        yield response


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if not line and "event" in fields:
            yield Event(fields["id"], fields["event"], orjson.loads(fields["data"]))
            fields = {}
        elif name in ("id", "event", "data"):
            fields[name] = value


async def all_events(poller: Poller, message_id: str, **headers: str) -> list[Event]:
    async with stream(poller, message_id, **headers) as response:
        return [event async for event in events(response)]


async def test_a_stream_tells_each_stage_and_ends_with_the_result(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.tasks.note_queued(message_id, stage="transcriber", at=ACCEPTED)
    async with stream(poller, message_id) as response:
        told = events(response)
        seen = [await anext(told)]
        await poller.tasks.note_started(message_id, stage="transcriber", at=ACCEPTED, attempt=1)
        for stage in ("agent-router", "formatter"):
            await poller.tasks.note_started(message_id, stage=stage, at=ACCEPTED, attempt=1)
            seen.append(await anext(told))
        await poller.finish(message_id, RESULT)
        seen += [event async for event in told]
    stages = [
        Event(stage, "status", {"status": "processing", "stage": stage})
        for stage in ("transcriber", "agent-router", "formatter")
    ]
    assert seen == [*stages, Event("result", "result", RESULT)]


async def test_no_proxy_is_to_hold_a_stream_back(poller: Poller) -> None:
    async with stream(poller, poller.ids.message_id()) as response:
        headers = response.headers
        assert (headers["content-type"], headers["x-accel-buffering"]) == ("text/event-stream; charset=utf-8", "no")
        assert headers["cache-control"] == "no-store, no-transform"


async def test_a_failed_message_ends_its_stream_with_a_result_too(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    failed = {"status": "failed", "error": "Audio transcription failed", "error_code": "TRANSCRIPTION_ERROR"}
    await poller.finish(message_id, failed)
    assert await all_events(poller, message_id) == [Event("result", "result", failed)]


async def test_a_stream_that_is_taken_up_again_repeats_nothing_and_ends_with_the_result(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.tasks.note_started(message_id, stage="agent-router", at=ACCEPTED, attempt=1)
    async with stream(poller, message_id) as response:
        seen = await anext(events(response))
    resumed = asyncio.create_task(all_events(poller, message_id, **{"Last-Event-ID": seen.id}))

    async def waits() -> bool:
        return len(poller.wakeups) == 1

    await eventually(waits)
    await poller.finish(message_id, RESULT)
    assert [one.name for one in await resumed] == ["result"]


async def test_a_browser_that_has_the_result_is_told_not_to_come_back(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    async with stream(poller, message_id, **{"Last-Event-ID": "result"}) as response:
        assert response.status_code == 204


@pytest.mark.parametrize("state", ["expired", "never seen", "not a UUID"])
async def test_what_has_no_stream_is_answered_as_json(poller: Poller, state: str) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    await poller.redis.driver.delete(f"task:{{{message_id}}}")
    asked = {"expired": message_id, "never seen": "018f2b5e-0000-7000-8000-00000000abcd", "not a UUID": "x"}[state]
    async with stream(poller, asked) as response:
        body = orjson.loads(await response.aread())
    found = (response.status_code, response.headers["content-type"], "error" in body)
    status = {"expired": 410, "never seen": 404, "not a UUID": 400}[state]
    assert found == (status, "application/json", True)


async def test_with_redis_down_there_is_no_stream() -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with (
        open_redis(settings) as nowhere,
        open_poller(nowhere, is_served=True) as poller,
        stream(poller, poller.ids.message_id()) as response,
    ):
        assert response.status_code == 503


async def test_a_stream_outlives_an_outage_of_redis(own_redis: Any) -> None:
    settings = RedisSettings.read({"REDIS_URL": own_redis.url})
    async with open_redis(settings) as redis, open_poller(redis, is_served=True) as poller:
        message_id = poller.ids.message_id()
        async with stream(poller, message_id) as response:
            told = events(response)
            await anext(told)
            own_redis.kill()
            own_redis.start()
            await poller.finish(message_id, RESULT)
            assert [one.name async for one in told] == ["result"]


async def test_a_drain_ends_streams_at_once_so_that_clients_go_elsewhere(poller: Poller) -> None:
    async with stream(poller, poller.ids.message_id()) as response:
        told = events(response)
        await anext(told)
        poller.wakeups.end_waiting()
        assert [one async for one in told] == []


async def test_a_client_that_leaves_its_stream_makes_room(poller: Poller) -> None:
    async with stream(poller, poller.ids.message_id()) as response:
        await anext(events(response))

    async def is_empty() -> bool:
        return len(poller.wakeups) == 0

    await eventually(is_empty)


async def test_a_quiet_stream_has_a_heartbeat() -> None:
    async with open_poller(is_served=True, POLLER_HEARTBEAT="100ms") as poller:
        async with stream(poller, poller.ids.message_id()) as response:
            beats = 0
            async for line in response.aiter_lines():
                beats += line == ": heartbeat"
                if beats == 3:
                    break
        assert beats == 3


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "stream"),
        ("TEXT/EVENT-STREAM;q=0.5", "stream"),
        ("application/json, text/event-stream", "stream"),
        ("application/json;q=0.4, text/event-stream;q=0.5", "stream"),
        ("application/json, text/event-stream;q=0.5", "json"),
        ("text/event-stream;q=0", "json"),
        ("text/event-stream;q=x", "stream"),
        ("*/*", "json"),
        ("", "json"),
        ("text/*", "json"),
    ],
)
async def test_the_client_says_which_of_both_it_wants(poller: Poller, accept: str, kind: str) -> None:
    async with stream(poller, poller.ids.message_id(), Accept=accept) as response:
        found = "stream" if response.headers["content-type"].startswith("text/event-stream") else "json"
        assert (found, "accept" in response.headers["vary"].lower()) == (kind, True)


def test_data_of_several_lines_stays_one_event() -> None:
    assert event("1", "result", b"a\nb") == b"id: 1\nevent: result\ndata: a\ndata: b\n\n"
