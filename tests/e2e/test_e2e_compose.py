"""The containers of deploy/compose, behind nginx: what an operator does to them, and what a bad day does."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import aio_pika
import pytest
from e2e.compose import IMAGES, Compose, restored, size_mb
from e2e.deployment import STAGES
from e2e.load import Load, load

from eai_common.testing import wait_until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(400)]

WORKERS = ("transcriber", "agent-router", "formatter")
LARGEST_MB = {"agent-router": 250, "transcriber": 200, "ingress": 90, "formatter": 90, "poller": 90}
READY_WITHIN_S = 3.0


def assert_nothing_failed(seen: Load) -> None:
    assert (seen.failed, seen.unanswered) == ([], []), seen.summary()
    assert len(seen.answered) == seen.sent > 0


def assert_nothing_was_lost(seen: Load, accepted: int) -> None:
    assert seen.unanswered == [], seen.summary()
    assert len(seen.answered) == accepted > 0, seen.summary()


def test_an_image_adds_little_to_its_base_and_starts_soon(compose: Compose) -> None:
    base = size_mb("python:3.11-slim-bookworm")
    sizes = {name: round(size_mb(f"eai-{name}:development") - base, 1) for name in IMAGES}
    starts = {stage: round(compose.container(stage).restarted_within_s(), 2) for stage in STAGES}
    compose.wait_until_healthy(*STAGES)
    print(json.dumps({"base_mb": round(base, 1), "size_less_base_mb": sizes, "start_to_ready_s": starts}))
    assert {stage: size for stage, size in sizes.items() if size > LARGEST_MB.get(stage, 1000)} == {}
    assert {stage: took for stage, took in starts.items() if took > READY_WITHIN_S} == {}


def test_the_edge_shows_no_metrics_and_says_in_json_that_nobody_is_there(compose: Compose) -> None:
    assert compose.client.http.get(f"{compose.client.poller_url}/metrics").status_code == 404
    with restored(compose, "poller"):
        compose.container("poller").stop()
        response = compose.client.poll(str(uuid4()))
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["error"] == "Service unavailable"


def test_every_stage_scales_to_three_and_back_under_load_without_a_failed_request(compose: Compose, user: str) -> None:
    with load(compose.client.poller_url, each_s=0.1, user=user) as seen:
        for stage in ("ingress", "agent-router", "poller"):
            compose.scale(stage, 3)
        counts = {stage: len(compose.containers(stage)) for stage in ("ingress", "agent-router", "poller")}
        for stage in ("ingress", "agent-router", "poller"):
            compose.scale(stage, 1)
    assert set(counts.values()) == {3}
    assert_nothing_failed(seen)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_crashes_under_load_is_started_again_and_loses_nothing(
    compose: Compose, user: str, stage: str
) -> None:
    container = compose.container(stage)
    with load(compose.client.poller_url, each_s=0.1, user=user) as seen:
        container.crash()
        wait_until(lambda: container.restarts > 0, within_s=30, what=f"{stage} was started again")
        compose.wait_until_healthy(stage)
    refused = sum(failed.startswith("POST") for failed in seen.failed)
    assert_nothing_was_lost(seen, seen.sent - refused)
    assert stage in ("ingress", "poller") or seen.failed == []


def test_while_rabbitmq_is_stopped_nothing_is_promised_and_afterwards_all_is_answered(
    compose: Compose, user: str
) -> None:
    client, tag = compose.client, uuid4().hex[:8]
    compose.sandbox.order_fault(target="agent_engine", kind="latency", seconds=1, match=tag)
    before = [client.send(f"{user}{n}", f"Pergunta {tag} {n}") for n in range(5)]
    with restored(compose, "rabbitmq"):
        compose.container("rabbitmq").stop()
        refused = client.post({"user_number": user, "message": "Durante"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    compose.wait_until_healthy("ingress", *WORKERS)
    after = client.send(user, "Depois")
    assert [client.answer(one)["status"] for one in (*before, after)] == ["completed"] * 6


def test_while_redis_is_stopped_messages_are_accepted_and_answered_afterwards(compose: Compose, user: str) -> None:
    client = compose.client
    done = client.send(user, "Antes")
    client.answer(done)
    with restored(compose, "redis"):
        compose.container("redis").stop()
        message_id = client.send(user, "Durante a queda do Redis")
        assert client.poll(message_id).status_code == 503
    wait_until(lambda: client.poll(message_id).status_code in (200, 202), within_s=60, what="the poller is back")
    assert client.answer(message_id)["status"] == "completed"
    assert client.answer(done)["status"] == "completed"  # Redis writes to its volume


@pytest.mark.parametrize(("stage", "network"), [("agent-router", "broker"), ("formatter", "store")])
def test_a_stage_cut_off_from_a_server_loses_nothing_and_takes_up_its_work_again(
    compose: Compose, user: str, stage: str, network: str
) -> None:
    client, tag = compose.client, uuid4().hex[:8]
    compose.sandbox.order_fault(target="agent_engine", kind="latency", seconds=2, match=tag)
    container = compose.container(stage)
    message_ids = [client.send(f"{user}{n}", f"Pergunta {tag} {n}") for n in range(8)]
    wait_until(lambda: any(tag in asked for asked in compose.sandbox.questions()), within_s=20, what="it is asked")
    container.leave(network)
    try:
        message_ids.append(client.send(user, "Durante o corte"))
        wait_until(lambda: not container.is_healthy, within_s=120, every_s=0.5, what="it knows that it is cut off")
    finally:
        container.join(network, alias=stage)
    compose.wait_until_healthy(stage)
    assert [client.answer(one, within_s=90)["status"] for one in message_ids] == ["completed"] * 9


def test_all_services_are_replaced_under_load_without_a_failed_request_or_a_lost_message(
    compose: Compose, user: str
) -> None:
    old = {stage: compose.container(stage).name for stage in STAGES}
    with load(compose.client.poller_url, each_s=0.05, user=user) as seen:
        compose.roll()
    print(json.dumps({"rolling_restart": seen.summary()}))
    assert {stage for stage in STAGES if compose.container(stage).name == old[stage]} == set()
    assert_nothing_failed(seen)


def test_messages_of_earlier_versions_that_wait_during_an_upgrade_are_answered(compose: Compose, user: str) -> None:
    client, tag = compose.client, uuid4().hex[:8]
    predecessors, first = str(uuid4()), str(uuid4())
    old = compose.container("agent-router")
    with restored(compose, "agent-router"):
        old.stop()
        ours = client.send(f"{user}1", f"Nova {tag}")
        put_by_hand(
            compose,
            {"id": predecessors, "type": "user_message", "user_number": f"{user}2", "message": f"Antiga {tag}"}
            | {"timestamp": "2026-01-01T10:30:00Z", "retry_count": 0, "extra": {"a": 1}},
            # What the first release of schema 1 wrote, and no field more.
            {"schema": 1, "type": "message.text", "message_id": first, "user_number": f"{user}3"}
            | {"message": f"Primeira {tag}", "message_type": "text", "timestamp": "2026-01-01T10:30:00.123Z"},
        )
    compose.roll("agent-router")
    for message_id, said in ((ours, "Nova"), (predecessors, "Antiga"), (first, "Primeira")):
        wait_until(lambda one=message_id: client.poll(one).status_code == 200, within_s=60, what=f"{said} is answered")  # type: ignore[misc]
        assert f"{said} {tag}" in client.poll(message_id).json()["content"]


def test_down_and_up_on_the_same_volumes_loses_nothing(compose: Compose, user: str) -> None:
    client, tag = compose.client, uuid4().hex[:8]
    done = client.send(user, "Antes")
    client.answer(done)
    compose.sandbox.order_fault(target="agent_engine", kind="hang", match=tag)
    waiting = [client.send(f"{user}{n}", f"Pergunta {tag} {n}") for n in range(12)]
    wait_until(lambda: any(tag in asked for asked in compose.sandbox.questions()), within_s=20, what="it is asked")
    compose.down()
    compose.up()
    assert client.answer(done)["status"] == "completed"
    assert [client.answer(one, within_s=90)["status"] for one in waiting] == ["completed"] * 12
    compose.wait_until_settled()


def put_by_hand(compose: Compose, *bodies: dict[str, object]) -> None:
    async def put() -> None:
        async with await aio_pika.connect(compose.broker_url) as connection:
            channel = await connection.channel()
            for body in bodies:
                message = aio_pika.Message(json.dumps(body).encode(), delivery_mode=2)
                await channel.default_exchange.publish(message, "eai.agent-router")

    asyncio.run(put())
