"""The delivery log of callbacks: what a task's status tells of them, and that it never opens a task again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eai_common.messages import TaskCompleted
from eai_common.settings import TaskSettings
from eai_common.store import (
    FailedAttempt,
    RedisClient,
    TaskStatus,
    TaskStore,
    open_memory_redis,
    status_key,
)
from eai_formatter.callbacks.log import CallbackAttempt, CallbackLog, CallbackState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = TaskSettings(task_status_ttl=timedelta(minutes=10), task_processing_ttl=timedelta(hours=24))
EVENT = TaskCompleted(
    message_id="01890a5d-ac96-774b-bcce-b302099a8057",
    user_number="+5521999990000",
    timestamp=NOW - timedelta(seconds=3),
    status="failed",
    result={},
)


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as opened:
        yield opened


def a_try(number: int = 1, state: CallbackState = "retrying", result: str = "503") -> CallbackAttempt:
    return CallbackAttempt(number, state, result, NOW, timedelta(milliseconds=132))


async def status_of(redis: RedisClient) -> TaskStatus | None:
    return (await TaskStore(redis, SETTINGS).read(EVENT.message_id)).status


async def finish(redis: RedisClient) -> None:
    await TaskStore(redis, SETTINGS).finish(EVENT.message_id, "failed", b"{}", at=NOW, accepted_at=EVENT.timestamp)


async def kept_for_s(redis: RedisClient) -> int:
    return round(await redis.driver.pttl(status_key(EVENT.message_id)) / 1000)


async def note_error(log: CallbackLog) -> None:
    await log.note_error(EVENT.message_id, stage="callbacks", at=NOW, tried=FailedAttempt(1, "CALLBACK_FAILED", None))


async def test_each_try_has_its_field_and_the_last_one_decides_the_state(redis: RedisClient) -> None:
    log = CallbackLog(redis, SETTINGS)
    await finish(redis)
    await log.note_attempt(EVENT, a_try(1))
    await note_error(log)
    await log.note_attempt(EVENT, a_try(2, "delivered", "204"))
    status = await status_of(redis)
    assert status is not None
    assert {name: value for name, value in status.fields.items() if name.startswith("callback:")} == {
        "callback:1": "2026-01-01T12:00:00.000Z 503 in 132 ms",
        "callback:2": "2026-01-01T12:00:00.000Z 204 in 132 ms",
        "callback:state": "delivered",
        "callback:last_error": "CALLBACK_FAILED (given up)",
    }


async def test_a_status_that_has_expired_is_written_anew_as_what_it_was(redis: RedisClient) -> None:
    await CallbackLog(redis, SETTINGS).note_attempt(EVENT, a_try())
    status = await status_of(redis)
    assert status is not None
    assert (status.status, status.stage, status.fields["created_at"]) == ("failed", "done", "2026-01-01T11:59:57.000Z")


async def test_the_journal_of_a_stage_after_the_end_opens_no_task_again(redis: RedisClient) -> None:
    log = CallbackLog(redis, SETTINGS)
    await log.note_started(EVENT.message_id, stage="callbacks", at=NOW, attempt=6)
    await note_error(log)
    assert await status_of(redis) is None


@pytest.mark.parametrize(
    ("tried", "kept_s"),
    [
        (a_try(1, "delivered"), 600),
        (a_try(1, "retrying"), 86_400),
        (a_try(2, "delivered"), 86_400),
        (a_try(1, "gone"), 86_400),
    ],
    ids=["delivered at once", "to be tried again", "delivered later", "gone"],
)
async def test_trouble_is_kept_long_enough_to_be_looked_into(
    redis: RedisClient, tried: CallbackAttempt, kept_s: int
) -> None:
    await finish(redis)
    await CallbackLog(redis, SETTINGS).note_attempt(EVENT, tried)
    assert await kept_for_s(redis) == kept_s


async def test_a_later_note_never_shortens_the_life_of_the_status(redis: RedisClient) -> None:
    log = CallbackLog(redis, SETTINGS)
    await log.note_attempt(EVENT, a_try(1, "retrying"))
    await log.note_attempt(EVENT, a_try(1, "delivered"))
    assert await kept_for_s(redis) == 86_400


async def test_a_dead_letter_replayed_for_ever_does_not_fill_the_hash(redis: RedisClient) -> None:
    log = CallbackLog(redis, SETTINGS)
    for number in range(1, 100):
        await log.note_attempt(EVENT, a_try(number))
    fields: dict[Any, Any] = await redis.driver.hgetall(status_key(EVENT.message_id))
    assert len([name for name in fields if name.startswith(b"callback:")]) == 21
