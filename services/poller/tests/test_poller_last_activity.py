"""GET /api/v1/message/last-activity."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from eai_common.settings import RedisSettings
from eai_common.store import ActivityStore, open_redis
from eai_poller.testing import ACCEPTED, Poller, open_poller

PATH = "/api/v1/message/last-activity"
NUMBER = "+5521999990000"


@pytest.fixture()
async def poller() -> AsyncIterator[Poller]:
    async with open_poller() as poller:
        yield poller


async def ask(poller: Poller, number: str) -> httpx.Response:
    return await poller.client.get(f"{PATH}?user_number={number}")


@pytest.mark.parametrize("form", ["%2B5521999990000", "+5521999990000", "5521999990000"])
async def test_a_user_is_found_in_whatever_form_the_number_is_given(poller: Poller, form: str) -> None:
    await ActivityStore(poller.redis, timedelta(hours=1)).note(NUMBER, at=ACCEPTED)
    answer = await ask(poller, form)
    assert answer.status_code == 200
    assert 3590 <= answer.json().pop("ttl_seconds") <= 3600
    assert {name: value for name, value in answer.json().items() if name != "ttl_seconds"} == {
        "user_number": NUMBER,
        "last_message_timestamp": "2026-01-01T10:30:00.000Z",
        "cached": True,
    }


async def test_of_a_user_who_has_not_written_nothing_is_known(poller: Poller) -> None:
    answer = await ask(poller, NUMBER)
    assert (answer.status_code, answer.json()["error"]) == (404, "No message history found")


@pytest.mark.parametrize("number", ["", "x", "12", "user_ab12cd34", "+55 21"])
async def test_what_is_no_number_is_a_wrong_request(poller: Poller, number: str) -> None:
    answer = await ask(poller, number)
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, "user_number")


async def test_without_a_number_it_is_a_wrong_request(poller: Poller) -> None:
    assert (await poller.client.get(PATH)).status_code == 400


async def test_the_predecessors_clients_may_ask_for_any_id() -> None:
    async with open_poller(API_COMPATIBILITY="predecessor") as poller:
        assert (await ask(poller, "user_ab12cd34")).status_code == 404


async def test_while_redis_is_down_nobody_is_told_that_there_is_no_history() -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(settings) as nowhere, open_poller(nowhere) as poller:
        assert (await ask(poller, NUMBER)).status_code == 503


async def test_with_tokens_only_their_owners_may_ask() -> None:
    async with open_poller(API_TOKEN="first") as poller:
        assert (await ask(poller, NUMBER)).status_code == 401
