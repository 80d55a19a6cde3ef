"""What happens when parts of the gateway die, stop, or get rubbish."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from e2e.deployment import STAGES, FiveProcesses, up

from eai_cli.recording import serve_recording
from eai_common.testing import wait_until

WORKERS = ("transcriber", "agent-router", "formatter")
QUEUES = ("eai.transcriber", "eai.agent-router", "eai.formatter", "eai.callbacks")


def wait_until_settled(processes: FiveProcesses) -> None:
    """Every stage queue and every delay queue is empty: each message was acked or is a dead letter."""

    def is_settled() -> bool:
        return all(count == 0 for name, count in processes.depths().items() if not name.endswith(".dlq"))

    # Rarely, because each look starts an Erlang node, which starves the very counters that it reads.
    wait_until(is_settled, within_s=60, every_s=2, what="all queues are empty")


def dead_letters(processes: FiveProcesses, queue: str) -> list[dict[str, object]]:
    """The headers of a queue's dead letters, which are taken out."""

    async def take() -> list[dict[str, object]]:
        taken: list[dict[str, object]] = []
        async with await aio_pika.connect(processes.rabbitmq.url) as connection:
            channel = await connection.channel()
            dead = await channel.get_queue(f"{queue}.dlq", ensure=False)
            while (message := await dead.get(fail=False)) is not None:
                await message.ack()
                taken.append(dict(message.headers))
        return taken

    return asyncio.run(take())


def put_by_hand(processes: FiveProcesses, queue: str, body: bytes) -> None:
    async def put() -> None:
        async with await aio_pika.connect(processes.rabbitmq.url) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(body), queue)

    asyncio.run(put())


@pytest.mark.parametrize("stage", WORKERS)
def test_a_worker_killed_with_messages_in_flight_loses_none_of_them(
    processes: FiveProcesses, user: str, stage: str
) -> None:
    client, sandbox = processes.client, processes.sandbox
    tag = uuid4().hex[:8]
    questions = [f"Pergunta {tag} número {n}" for n in range(20)]
    sandbox.order_fault(target="agent_engine", kind="latency", seconds=0.5, match=tag)
    message_ids = [client.send(f"{user}{n:02d}", question) for n, question in enumerate(questions)]
    processes.end(stage, signal.SIGKILL)
    processes.start(stage)
    results = [client.answer(message_id) for message_id in message_ids]
    assert [result["status"] for result in results] == ["completed"] * 20
    assert all(question in result["content"] for question, result in zip(questions, results, strict=True))
    wait_until_settled(processes)
    asked = [question for question in sandbox.questions() if tag in question]
    # At most what the killed process had under way may have been asked twice: nothing can know that it was not.
    assert len(asked) <= 20 + (10 if stage == "agent-router" else 0)


@pytest.mark.parametrize("stage", ["ingress", "poller"])
def test_an_http_service_killed_and_restarted_knows_all_that_was_accepted(
    processes: FiveProcesses, user: str, stage: str
) -> None:
    client = processes.client
    message_ids = [client.send(f"{user}{n:02d}", f"Pergunta {n}") for n in range(20)]
    processes.end(stage, signal.SIGKILL)
    processes.start(stage)
    assert [client.answer(message_id)["status"] for message_id in message_ids] == ["completed"] * 20


def test_a_worker_killed_in_the_middle_of_a_voice_message_loses_nothing(
    processes: FiveProcesses, user: str, spoken_question: Path
) -> None:
    processes.sandbox.forget_calls()
    processes.sandbox.order_fault(target="speech", kind="latency", seconds=2, times=1)
    with serve_recording(spoken_question) as url:
        message_id = processes.client.send(user, url)
        wait_until(
            lambda: processes.sandbox.is_asked("speech"),
            within_s=40,
            what="speech was asked",
        )
        processes.end("transcriber", signal.SIGKILL)
        processes.start("transcriber")
        result = processes.client.answer(message_id)
    assert result["transcript"] == "where can i get a new passport"


def test_an_operator_sees_each_try_of_a_voice_message_and_how_long_it_waited(
    processes: FiveProcesses, user: str, spoken_question: Path
) -> None:
    processes.sandbox.order_fault(target="speech", kind="status", status=429, retry_after_s=2, times=1)
    with serve_recording(spoken_question) as url:
        message_id = processes.client.send(user, url)
        assert processes.client.answer(message_id)["status"] == "completed"
    log = processes.client.task_status(message_id)["processing_log"]
    tries = [entry for entry in log if entry["stage"] == "transcriber"]
    assert [(entry["event"], entry["attempt"]) for entry in tries] == [("started", 1), ("failed", 1), ("started", 2)]
    assert (tries[1]["error_code"], tries[1]["next_try_in_s"] >= 2) == ("RATE_LIMITED", True)


@pytest.mark.parametrize("stage", STAGES)
def test_sigterm_drains_a_service_and_it_exits_0(processes: FiveProcesses, user: str, stage: str) -> None:
    client = processes.client
    tag = uuid4().hex[:8]
    processes.sandbox.order_fault(target="agent_engine", kind="latency", seconds=1, match=tag)
    message_ids = [client.send(f"{user}{n}", f"Oi {tag} {n}") for n in range(5)]
    code = processes.end(stage, signal.SIGTERM)
    processes.start(stage)
    results = [client.answer(message_id) for message_id in message_ids]
    assert (code, [result["status"] for result in results]) == (0, ["completed"] * 5)
    assert len([question for question in processes.sandbox.questions() if tag in question]) == 5


def test_sigterm_drains_eai_up_and_it_exits_0(tmp_path: Path, user: str) -> None:
    with up(tmp_path) as running:
        running.sandbox.order_fault(target="agent_engine", kind="latency", seconds=1)
        message_id = running.client.send(user, "Oi")
        wait_until(lambda: running.sandbox.questions() == ["Oi"], within_s=10, what="the agent was asked")
        assert running.process.end(signal.SIGTERM) == 0
        done = [
            line for line in running.process.output().splitlines() if message_id in line and "delivery_finished" in line
        ]
    assert any("agent.replied" in line for line in done)


@pytest.mark.parametrize("queue", QUEUES)
def test_garbage_in_a_queue_becomes_a_dead_letter_with_the_reason_and_the_stage_lives(
    processes: FiveProcesses, user: str, queue: str
) -> None:
    dead_letters(processes, queue)
    for body in (b"\x00\xff not json", b"{}", b'{"schema": 99}', b""):
        put_by_hand(processes, queue, body)
    wait_until(lambda: processes.depths()[f"{queue}.dlq"] == 4, within_s=30, every_s=2, what="four dead letters")
    codes = {headers["x-eai-dead-letter-error-code"] for headers in dead_letters(processes, queue)}
    assert codes == {"INVALID_MESSAGE"}
    assert processes.client.answer(processes.client.send(user, "Oi"))["status"] == "completed"


def test_an_answer_of_an_unknown_form_fails_the_message_and_is_kept_for_the_operator(
    processes: FiveProcesses, user: str
) -> None:
    dead_letters(processes, "eai.agent-router")
    tag = uuid4().hex[:8]
    processes.sandbox.order_fault(target="agent_engine", kind="malformed", match=tag)
    result = processes.client.answer(processes.client.send(user, f"Oi {tag}"))
    assert (result["status"], result["error_code"]) == ("failed", "AGENT_BAD_RESPONSE")
    assert "não consegui" in result["data"]["messages"][-2]["content"]
    wait_until(
        lambda: processes.depths()["eai.agent-router.dlq"] == 1, within_s=30, every_s=2, what="there is a dead letter"
    )
    (headers,) = dead_letters(processes, "eai.agent-router")
    assert '"content": "Ol' in str(headers["x-eai-dead-letter-evidence"])


def test_a_predecessors_message_in_the_queue_is_answered(processes: FiveProcesses, user: str) -> None:
    message_id = str(uuid4())
    body = (
        f'{{"id": "{message_id}", "type": "user_message", "user_number": "{user}", "message": "Oi, sou antigo",'
        ' "timestamp": "2026-01-01T10:30:00Z", "extra": {"a": 1}}'
    )
    put_by_hand(processes, "eai.agent-router", body.encode())
    wait_until(lambda: processes.client.poll(message_id).status_code == 200, within_s=20, what="it is answered")
    assert "sou antigo" in processes.client.poll(message_id).json()["content"]


def test_the_queues_are_those_of_the_contract(processes: FiveProcesses) -> None:
    names = set(processes.depths())
    expected = {*QUEUES, *(f"{queue}.dlq" for queue in QUEUES)}
    assert expected <= names
    assert all(name.startswith("eai.delay.") for name in names - expected)


def test_while_rabbitmq_is_down_nothing_is_promised_and_afterwards_all_goes_on(
    processes: FiveProcesses, user: str
) -> None:
    client = processes.client
    client.answer(client.send(user, "Antes"))
    processes.rabbitmq.stop()
    try:
        refused = client.post({"user_number": user, "message": "Durante"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    finally:
        processes.rabbitmq.start()
    for stage in ("ingress", *WORKERS):
        wait_until(lambda stage=stage: processes.is_ready(stage), within_s=60, what=f"{stage} is ready")  # type: ignore[misc]
    assert client.answer(client.send(user, "Depois"))["status"] == "completed"


def test_while_redis_is_down_messages_are_accepted_and_answered_afterwards(processes: FiveProcesses, user: str) -> None:
    client = processes.client
    processes.redis.stop()
    try:
        message_id = client.send(user, "Durante a queda do Redis")
        assert client.poll(message_id).status_code == 503
    finally:
        processes.redis.start()
    wait_until(lambda: client.poll(message_id).status_code in (200, 202), within_s=30, what="the poller is back")
    assert client.answer(message_id)["status"] == "completed"


def test_rabbitmq_killed_with_messages_in_flight_loses_none_of_them(processes: FiveProcesses, user: str) -> None:
    client = processes.client
    tag = uuid4().hex[:8]
    processes.sandbox.order_fault(target="agent_engine", kind="latency", seconds=0.5, match=tag)
    message_ids = [client.send(f"{user}{n:02d}", f"Pergunta {tag} {n}") for n in range(20)]
    processes.rabbitmq.kill()
    processes.rabbitmq.start()
    assert [client.answer(message_id)["status"] for message_id in message_ids] == ["completed"] * 20
