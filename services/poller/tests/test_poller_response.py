"""GET /api/v1/message/response: one honest answer for each thing that can have become of a message."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.ids import Ids
from eai_common.settings import RedisSettings
from eai_common.store import FailedAttempt, TaskStatus, TaskView, open_redis
from eai_common.testing import RANDOM, pass_time
from eai_poller.answer import State, answer_for
from eai_poller.testing import ACCEPTED, PATH, RESULT, Poller, open_poller

MINUTE = timedelta(minutes=1)


@pytest.fixture()
async def poller() -> AsyncIterator[Poller]:
    async with open_poller() as poller:
        yield poller


# What has become of a message


async def test_a_message_that_waits_is_processing_in_its_stage(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.tasks.note_queued(message_id, stage="agent-router", at=ACCEPTED)
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    assert answer.json() == {
        "status": "processing",
        "message": "Your message is being processed",
        "stage": "agent-router",
    }


async def test_a_message_in_its_third_try_is_still_processing(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.tasks.note_started(message_id, stage="transcriber", at=ACCEPTED, attempt=3)
    await poller.tasks.note_error(message_id, stage="transcriber", at=ACCEPTED, tried=FailedAttempt(3, "X", None))
    assert (await poller.get(message_id)).json()["stage"] == "transcriber"


@pytest.mark.parametrize(
    "result",
    [RESULT, {"status": "failed", "error": "Audio transcription failed", "error_code": "TRANSCRIPTION_ERROR"}],
    ids=["completed", "failed"],
)
async def test_a_finished_message_is_answered_with_exactly_what_was_stored(
    poller: Poller, result: dict[str, Any]
) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, result)
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == orjson.dumps(result)


async def test_a_result_can_be_fetched_again_and_again(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    assert {(await poller.get(message_id)).status_code for _ in range(3)} == {200}


async def test_a_message_whose_result_is_gone_is_expired(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    await poller.redis.driver.delete(f"task:{{{message_id}}}")
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.json()["error"]) == (410, "Result expired")


@pytest.mark.virtual_time()
async def test_a_message_of_ours_that_nothing_is_known_of_is_processing_while_it_is_young(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await pass_time(9 * MINUTE)
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.json()["stage"]) == (202, "ingress")


@pytest.mark.virtual_time()
async def test_a_message_of_ours_that_everything_has_expired_of_is_expired(poller: Poller) -> None:
    message_id = poller.ids.message_id()
    await pass_time(10 * MINUTE)
    assert (await poller.get(message_id)).status_code == 410


@pytest.mark.parametrize(
    "message_id",
    [str(uuid.UUID(int=0)), "018f2b5e-0000-7000-8000-00000000abcd", "7f3f5e0c-0f3b-4f39-9a53-2d8d6d0d3a11"],
)
async def test_an_id_that_no_gateway_issued_was_never_seen(poller: Poller, message_id: str) -> None:
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.json()["error"], answer.json()["message"]) == (
        404,
        "Task not found",
        "No task found with the provided message ID",
    )


async def test_an_id_of_another_deployment_was_never_seen(poller: Poller) -> None:
    others = Ids(poller.clock, RANDOM, b"their key").message_id()
    assert (await poller.get(others)).status_code == 404


async def test_with_a_key_an_id_that_a_stranger_made_was_never_seen() -> None:
    async with open_poller(MESSAGE_ID_KEY="hunter2") as poller:
        stranger = Ids(poller.clock, RANDOM).message_id()
        statuses = [(await poller.get(message_id)).status_code for message_id in (stranger, poller.ids.message_id())]
        assert statuses == [404, 202]


async def test_a_message_that_the_predecessor_accepted_is_found_although_its_id_is_not_ours(poller: Poller) -> None:
    message_id = str(uuid.uuid4())
    await poller.finish(message_id, RESULT)
    assert (await poller.get(message_id)).status_code == 200


@pytest.mark.parametrize("form", [str.upper, lambda text: text.replace("-", "")], ids=["upper case", "no hyphens"])
async def test_an_id_is_found_in_whatever_form_it_is_asked_for(poller: Poller, form: Any) -> None:
    message_id = poller.ids.message_id()
    await poller.finish(message_id, RESULT)
    assert (await poller.get(form(message_id))).status_code == 200


@pytest.mark.parametrize(
    "message_id", [None, "", "12", "x" * 36, "018f2b5e-0000-7000-8000-00000000abc", "*", "{a}", "../x"]
)
async def test_what_is_no_uuid_is_a_wrong_request(poller: Poller, message_id: str | None) -> None:
    answer = await poller.get(message_id)
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid request")


# Outages and access


@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "a stranger's"])
async def test_while_redis_is_down_nobody_is_told_that_a_message_was_not_found(is_ours: bool) -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(settings) as nowhere, open_poller(nowhere) as poller:
        answer = await poller.get(poller.ids.message_id() if is_ours else str(uuid.uuid4()))
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (
            503,
            "5",
            "Service unavailable",
        )


async def test_a_poll_is_answered_from_a_real_redis(redis_server: Any) -> None:
    async with (
        open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis,
        open_poller(redis) as poller,
    ):
        message_id = poller.ids.message_id()
        await poller.finish(message_id, RESULT)
        assert (await poller.get(message_id)).json() == RESULT


@pytest.mark.parametrize(("token", "status"), [("first", 202), ("third", 401), (None, 401)])
async def test_with_tokens_only_their_owners_may_ask(token: str | None, status: int) -> None:
    async with open_poller(API_TOKEN="first,second") as poller:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        assert (await poller.get(poller.ids.message_id(), **headers)).status_code == status


async def test_other_methods_are_refused(poller: Poller) -> None:
    assert (await poller.client.post(PATH)).status_code == 405


async def test_an_error_carries_the_requests_id(poller: Poller) -> None:
    answer = await poller.client.get(PATH, headers={"X-Request-ID": "abc"})
    assert (answer.json()["request_id"], answer.headers["x-request-id"]) == ("abc", "abc")


# The decision alone

STATUSES = st.none() | st.builds(TaskStatus, st.sampled_from(["processing", "completed", "failed"]), st.just("router"))
VIEWS = st.builds(TaskView, st.none() | st.just(b"{}"), STATUSES)
AGES = st.none() | st.timedeltas(-MINUTE, timedelta(days=30))


@given(VIEWS, AGES)
def test_each_state_is_told_when_it_is_true_and_only_then(view: TaskView, age: timedelta | None) -> None:
    issued_at = None if age is None else ACCEPTED - age
    state = answer_for(view, issued_at=issued_at, now=ACCEPTED, known_for=10 * MINUTE).state
    assert (state is State.FINISHED) == (view.result is not None)
    if view.result is None and view.status is not None:
        assert state is (State.EXPIRED if view.status.is_terminal else State.PROCESSING)
    if view.result is None and view.status is None:
        assert (state is State.NEVER_SEEN) == (issued_at is None)
        assert (state is State.PROCESSING) == (age is not None and age < 10 * MINUTE)
