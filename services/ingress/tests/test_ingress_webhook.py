"""POST /api/v1/message/webhook/user: what a channel sees, and what is in the broker once it has its answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest

from eai_common.ids import issued_at
from eai_common.messages import MessageAudio, MessageText, decode
from eai_common.settings import RedisSettings
from eai_common.store import ActivityStore, LatencyStore, TaskStore, open_redis
from eai_common.testing import eventually
from eai_ingress.testing import BODY, PATH, ROUTER, TRANSCRIBER, Ingress, World, open_ingress

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture()
async def ingress() -> AsyncIterator[Ingress]:
    async with open_ingress() as ingress:
        yield ingress


# Accepting


async def test_a_message_is_accepted_with_where_to_ask_for_its_answer(ingress: Ingress) -> None:
    answer = await ingress.post()
    body = answer.json()
    endpoint = f"/api/v1/message/response?message_id={body['message_id']}"
    assert answer.status_code == 202
    assert body == {
        "message_id": body["message_id"],
        "status": "queued",
        "estimated_wait_time": "1-60 seconds",
        "polling_endpoint": endpoint,
    }
    assert answer.headers["location"] == endpoint


async def test_an_accepted_message_has_an_id_of_ours(ingress: Ingress) -> None:
    body = (await ingress.post()).json()
    assert issued_at(UUID(body["message_id"])) is not None


async def test_the_id_carries_the_deployments_key() -> None:
    async with open_ingress(MESSAGE_ID_KEY="hunter2") as ingress:
        message_id = UUID((await ingress.post()).json()["message_id"])
    assert (issued_at(message_id, b"hunter2") is not None, issued_at(message_id)) == (True, None)


async def test_the_same_message_sent_twice_is_two_messages(ingress: Ingress) -> None:
    one, other = [(await ingress.post()).json()["message_id"] for _ in range(2)]
    assert one != other


async def test_an_accepted_text_waits_for_the_agent_router_with_all_that_was_sent(ingress: Ingress) -> None:
    sent = {
        **BODY,
        "message": " Oi ",
        "previous_message": "Olá",
        "metadata": {"ticket": 7},
        "provider": "google_agent_engine",
        "reasoning_engine_id": "42",
        "callback_url": "https://channel.example/x",
    }
    message_id = (await ingress.post(sent)).json()["message_id"]
    message = ingress.queued()
    event = decode(message.body, event_name=message.event, accepts=[MessageText], fallback_time=None)
    own = {"timestamp", "trace_headers", "schema_version", "transcript"}
    kept = event.model_dump(exclude=own)
    assert kept == {
        **sent,
        **dict.fromkeys(["replay", "outcome_number", "outcome_after"], 0),
        "channel": "whatsapp",
        "message_id": message_id,
        "user_number": "+5521999990000",
        "message": "Oi",
        "message_type": "text",
    }


async def test_an_accepted_recording_waits_for_the_transcriber(ingress: Ingress) -> None:
    await ingress.post({**BODY, "message": "https://host/a.ogg"})
    message = ingress.queued(TRANSCRIBER)
    event = decode(message.body, event_name=message.event, accepts=[MessageAudio], fallback_time=None)
    assert (event.message, event.message_type) == ("https://host/a.ogg", "audio")


async def test_the_body_in_the_broker_is_the_first_hop_of_the_contract(ingress: Ingress) -> None:
    message_id = (await ingress.post()).json()["message_id"]
    fields = orjson.loads(ingress.queued().body)
    told = {name: fields[name] for name in ("schema", "message_id", "user_number", "message", "message_type")}
    assert told == {
        "schema": 1,
        "message_id": message_id,
        "user_number": "+5521999990000",
        "message": "Oi",
        "message_type": "text",
    }
    assert fields["timestamp"].endswith("Z")


async def test_the_brokers_properties_tell_the_message_without_its_body(ingress: Ingress) -> None:
    message_id = (await ingress.post()).json()["message_id"]
    message = ingress.queued()
    told = message.message_id, message.event, message.routing_key, message.content_type, message.headers["x-eai-schema"]
    assert told == (message_id, "message.text", "message.text", "application/json", 1)


async def test_a_callers_trace_is_continued_in_the_headers_and_in_the_body(ingress: Ingress) -> None:
    await ingress.post(traceparent=TRACEPARENT)
    message = ingress.queued()
    in_header, in_body = message.headers["traceparent"], orjson.loads(message.body)["trace_headers"]["traceparent"]
    assert in_header == in_body
    assert str(in_header).split("-")[1] == TRACE
    assert in_header != TRACEPARENT  # our span, not the caller's


async def test_an_accepted_message_can_be_polled_at_once(ingress: Ingress) -> None:
    message_id = (await ingress.post()).json()["message_id"]
    status = (await TaskStore(ingress.redis, ingress.settings.tasks).read(message_id)).status
    assert status is not None
    assert (status.status, status.stage) == ("processing", "agent-router")


async def test_the_estimate_comes_from_recent_messages_of_the_same_type(ingress: Ingress) -> None:
    async def estimate(message: str) -> str:
        answer = await ingress.post({**BODY, "message": message})
        return str(answer.json()["estimated_wait_time"])

    async def estimate_of_recordings_is_known() -> bool:
        return await estimate("https://host/a.ogg") == "8-9 seconds"

    for _ in range(10):
        await LatencyStore(ingress.redis).note("audio", timedelta(seconds=7.5))
    await eventually(estimate_of_recordings_is_known)
    assert await estimate("Oi") == "1-60 seconds"


async def test_accepted_messages_are_counted(ingress: Ingress) -> None:
    await ingress.post()
    assert b'rabbitmq_messages_published_total{event="message.text"} 1.0' in ingress.metrics.exposition()


# Clients of the predecessor


async def test_a_predecessors_client_gets_201_and_processing() -> None:
    async with open_ingress(API_COMPATIBILITY="predecessor") as ingress:
        answer = await ingress.post({**BODY, "user_number": "user_ab12cd34"})
        assert (answer.status_code, answer.json()["status"]) == (201, "processing")
        assert set(answer.json()) == {"message_id", "status", "estimated_wait_time", "polling_endpoint"}
        assert orjson.loads(ingress.queued().body)["user_number"] == "user_ab12cd34"


async def test_an_opaque_user_is_refused_to_everyone_else(ingress: Ingress) -> None:
    assert (await ingress.post({**BODY, "user_number": "user_ab12cd34"})).status_code == 400


# Refusing


async def test_a_wrong_body_is_answered_with_each_wrong_field_and_nothing_is_published(ingress: Ingress) -> None:
    answer = await ingress.post({"user_number": "x"}, X_Request_ID="abc")
    body = answer.json()
    assert (answer.status_code, body["error"], body["request_id"]) == (400, "Invalid request", "abc")
    assert [detail["field"] for detail in body["details"]] == ["user_number", "message"]
    assert ingress.broker.contents(ROUTER) == ()


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON", 202),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        (None, 415),
    ],
)
async def test_only_json_is_taken(ingress: Ingress, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await ingress.client.post(PATH, content=orjson.dumps(BODY), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")


async def test_a_body_over_the_limit_is_refused_while_it_streams_in() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    async with open_ingress(MAX_REQUEST_SIZE_MB="0.01") as ingress:
        answer = await ingress.client.post(PATH, content=endless(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]) == (413, "Payload too large")


@pytest.mark.parametrize(("token", "status"), [("first", 202), ("second", 202), ("third", 401), (None, 401)])
async def test_with_tokens_only_their_owners_may_send(token: str | None, status: int) -> None:
    async with open_ingress(API_TOKEN="first,second") as ingress:
        answer = await (ingress.post() if token is None else ingress.post(Authorization=f"Bearer {token}"))
        assert answer.status_code == status


async def test_who_may_not_send_learns_nothing_about_the_body() -> None:
    async with open_ingress(API_TOKEN="first") as ingress:
        assert (await ingress.post({"user_number": 1})).status_code == 401


async def test_other_methods_are_refused(ingress: Ingress) -> None:
    assert (await ingress.client.get(PATH)).status_code == 405


async def test_a_provider_is_taken_where_it_is_configured() -> None:
    async with open_ingress(AGENT_PROVIDERS="google_agent_engine,openai") as ingress:
        statuses = [
            (await ingress.post({**BODY, "provider": provider})).status_code
            for provider in ("openai", "eai_agent_service")
        ]
        assert statuses == [202, 400]


async def test_a_callback_without_tls_is_taken_where_it_is_allowed() -> None:
    async with open_ingress(CALLBACK_ALLOW_HTTP="true") as ingress:
        assert (await ingress.post({**BODY, "callback_url": "http://host/x"})).status_code == 202


# What Redis is told in the same round trip


async def test_a_users_messages_stand_in_the_inbox_in_the_order_of_their_acceptance(ingress: Ingress) -> None:
    ids = [(await ingress.post()).json()["message_id"] for _ in range(3)]
    assert await ingress.open_messages() == ids


async def test_it_is_known_when_a_user_last_wrote(ingress: Ingress) -> None:
    await ingress.post()
    activity = await ActivityStore(ingress.redis, timedelta(days=1)).read("+5521999990000")
    assert activity is not None
    assert datetime.now(UTC) - activity.at < timedelta(minutes=1)


async def test_an_answer_tells_how_much_of_the_limit_is_left() -> None:
    async with open_ingress(RATE_LIMIT_REQUESTS_PER_MINUTE="10") as ingress:
        answers = [await ingress.post(), await ingress.post({"user_number": "x"}), await ingress.post()]
        told = [(answer.status_code, answer.headers["x-ratelimit-remaining"]) for answer in answers]
        assert told == [(202, "9"), (400, "8"), (202, "7")]


async def test_of_a_request_over_the_limit_nothing_is_left_anywhere() -> None:
    async with open_ingress(RATE_LIMIT_REQUESTS_PER_MINUTE="1") as ingress:
        accepted = await ingress.post(Idempotency_Key="one")
        refused = await ingress.post(Idempotency_Key="two")
        again = await ingress.post(Idempotency_Key="one")
        assert (accepted.status_code, refused.status_code, again.status_code) == (202, 429, 429)
        assert refused.json()["error"] == "Rate limit exceeded"
        assert len(ingress.broker.contents(ROUTER)) == 1
        patterns = ("idem:*", "task:status:*", "inbox:{*")
        assert [len([key async for key in ingress.redis.driver.scan_iter(pattern)]) for pattern in patterns] == [
            1,
            1,
            1,
        ]
        assert len(await ingress.open_messages()) == 1


async def test_guessing_tokens_is_limited_too() -> None:
    async with open_ingress(API_TOKEN="first", RATE_LIMIT_REQUESTS_PER_MINUTE="2") as ingress:
        statuses = [(await ingress.post(Authorization=f"Bearer {guess}")).status_code for guess in "abc"]
        assert statuses == [401, 401, 429]


# Outages


async def test_while_a_queue_is_full_the_client_is_told_to_come_later_and_nothing_is_written() -> None:
    async with open_ingress(BACKPRESSURE_QUEUE_LIMIT="3") as ingress:

        async def is_refused() -> bool:
            return (await ingress.post()).status_code == 503

        await eventually(is_refused)
        accepted = len(await ingress.open_messages())
        answer = await ingress.post(Idempotency_Key="k")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert len(await ingress.open_messages()) == accepted
        assert len(ingress.broker.contents(ROUTER)) == accepted


async def test_what_the_broker_refused_has_no_place_among_the_users_messages(ingress: Ingress) -> None:
    ingress.broker.go_down()
    await ingress.post()
    kept = (b"user:last_activity", b"inbox:")
    left = [key async for key in ingress.redis.driver.scan_iter("*") if not key.startswith(kept)]
    assert (left, await ingress.open_messages()) == ([], [])


async def test_while_the_broker_is_down_the_client_is_told_to_try_again(ingress: Ingress) -> None:
    ingress.broker.go_down()
    answer = await ingress.post()
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (
        503,
        "5",
        "Service unavailable",
    )
    assert ingress.broker.contents(ROUTER) == ()


async def test_once_the_broker_is_back_the_next_message_is_accepted(ingress: Ingress) -> None:
    ingress.broker.go_down()
    await ingress.post()
    ingress.broker.come_back()
    assert (await ingress.post()).status_code == 202


async def test_without_redis_a_message_is_still_accepted() -> None:
    settings = RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})
    async with open_redis(settings) as nowhere, open_ingress(World(nowhere)) as ingress:
        answer = await ingress.post()
        assert answer.status_code == 202
        assert ingress.queued().message_id == answer.json()["message_id"]


@pytest.fixture()
def silent_server() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_redis_that_does_not_answer_delays_an_acceptance_by_seconds_at_most(silent_server: str) -> None:
    settings = RedisSettings.read({"REDIS_URL": silent_server, "REDIS_TIMEOUT": "1h"})
    async with open_redis(settings) as silent, open_ingress(World(silent)) as ingress, asyncio.timeout(5):
        assert (await ingress.post()).status_code == 202


# Hostile content


@pytest.mark.parametrize("field", ["message", "previous_message", "user_number", "metadata"])
async def test_a_control_character_is_refused_by_the_name_of_its_field(ingress: Ingress, field: str) -> None:
    value = {"note": ["a\x00b"]} if field == "metadata" else "+5521\x0099990000"
    answer = await ingress.post({**BODY, field: value})
    assert answer.status_code == 400
    assert answer.json()["details"] == [{"field": field, "message": "has the control character U+0000"}]


@pytest.mark.parametrize("body", [b'{"user_number":"5521999990000","message":"\\ud83d"}', b'{"message":"\xff"}'])
async def test_what_is_no_unicode_is_no_json(ingress: Ingress, body: bytes) -> None:
    answer = await ingress.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid request")


@pytest.mark.parametrize(("mode", "status"), [("default", 202), ("strict", 400)])
async def test_html_that_a_browser_would_run_is_a_message_unless_a_setting_says_otherwise(
    mode: str, status: int
) -> None:
    async with open_ingress(CONTENT_CHECK=mode) as ingress:
        assert (await ingress.post({**BODY, "message": "o que faz <script>alert(1)</script>?"})).status_code == status
        assert (await ingress.post({**BODY, "message": "once = 1 or 1=1; I <3 x"})).status_code == 202
