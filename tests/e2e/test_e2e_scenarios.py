"""What a channel sees, whichever way the gateway runs."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from e2e.deployment import Deployment

from eai_cli.recording import serve_recording


def test_a_text_is_answered_in_whatsapp_formatting(deployment: Deployment, user: str) -> None:
    result = deployment.client.answer(deployment.client.send(user, "Qual o horário do posto de saúde?"))
    assert result["status"] == "completed"
    assert "posto de saúde" in result["content"]
    assert "**" not in result["content"]
    assert "](" not in result["content"]


def test_a_result_has_the_shape_that_clients_read(deployment: Deployment, user: str) -> None:
    message_id = deployment.client.send(user, "Quando vence o IPTU?", metadata={"channel": "whatsapp", "n": 1})
    result = deployment.client.answer(message_id)
    assert result["thread_id"] == user
    assert result["metadata"] == {"channel": "whatsapp", "n": 1}
    assert result["message_type"] == "text"
    assert result["transcript"] is None
    assert result["processing_time_ms"] > 0
    assert result["contents"] == [result["content"]]
    data = result["data"]
    assert (data["agent_id"], data["processed_at"], data["status"]) == (f"user_{user}", message_id, "done")
    said = [message for message in data["messages"] if message["message_type"] == "assistant_message"]
    assert said[-1]["content"] == result["content"]
    assert data["messages"][-1]["message_type"] == "usage_statistics"


def test_a_history_update_is_answered_with_what_the_engine_said(deployment: Deployment, user: str) -> None:
    messages = [{"content": "Meu nome é Maria", "role": "human"}, {"content": "Olá, Maria!", "role": "ai"}]
    response = deployment.client.post(
        {"user_number": user, "messages": messages, "metadata": {"n": 1}}, to="update_history"
    )
    body = response.json()
    assert (response.status_code, body["status"], body["metadata"]) == (200, "completed", {"n": 1})
    assert body["answer"]["messages"]
    assert deployment.client.poll(body["message_id"]).json() == body


def test_a_voice_message_is_transcribed_and_answered(deployment: Deployment, user: str, spoken_question: Path) -> None:
    with serve_recording(spoken_question, deployment.host) as url:
        result = deployment.client.answer(deployment.client.send(user, url))
    assert (result["status"], result["message_type"]) == ("completed", "audio")
    assert result["transcript"] == "where can i get a new passport"
    assert "passport" in result["content"]


def test_an_audio_url_that_is_no_audio_fails_with_a_code_and_a_friendly_text(
    deployment: Deployment, user: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.mp3"
    page.write_text("<html>não sou um áudio</html>")
    with serve_recording(page, deployment.host) as url:
        result = deployment.client.answer(deployment.client.send(user, url))
    assert (result["status"], result["error_code"]) == ("failed", "AUDIO_UNSUPPORTED")
    assert "áudio" in result["data"]["messages"][0]["content"]
    assert "retry_after" not in result


def test_an_audio_url_to_a_private_address_is_refused(deployment: Deployment, user: str) -> None:
    message_id = deployment.client.send(user, "http://10.0.0.1/voz.ogg", message_type="audio")
    assert deployment.client.answer(message_id)["error_code"] == "AUDIO_URL_REFUSED"


def test_the_agent_remembers_what_the_user_said_before(deployment: Deployment, user: str) -> None:
    client = deployment.client
    client.answer(client.send(user, "Meu cachorro se chama Pipoca"))
    assert "Pipoca" in client.answer(client.send(user, "o que eu disse antes?"))["content"]


def test_a_client_that_waits_is_answered_as_soon_as_the_result_is_there(deployment: Deployment, user: str) -> None:
    deployment.sandbox.order_fault(target="agent_engine", kind="latency", seconds=1, match=user)
    message_id = deployment.client.send(user, f"Oi {user}")
    url = f"{deployment.client.poller_url}/api/v1/message/response"
    response = deployment.client.http.get(url, params={"message_id": message_id, "wait": 20})
    assert (response.status_code, response.json()["status"]) == (200, "completed")


def test_a_stream_shows_each_event_when_it_happens(deployment: Deployment, user: str) -> None:
    deployment.sandbox.order_fault(target="agent_engine", kind="latency", seconds=1, match=user)
    message_id = deployment.client.send(user, f"Oi {user}")
    url = f"{deployment.client.poller_url}/api/v1/message/response"
    seen: dict[str, float] = {}
    with deployment.client.http.stream(
        "GET", url, params={"message_id": message_id}, headers={"Accept": "text/event-stream"}
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                seen.setdefault(line.removeprefix("event: "), time.monotonic())
    assert set(seen) == {"status", "result"}
    assert seen["result"] - seen["status"] > 0.5  # not held back and handed on together


def test_users_do_not_see_each_others_threads(deployment: Deployment, user: str) -> None:
    client = deployment.client
    client.answer(client.send(user, "Meu segredo é abacaxi"))
    other = f"{user[:-1]}{(int(user[-1]) + 5) % 10}1"
    assert "abacaxi" not in client.answer(client.send(other, "o que eu disse antes?"))["content"]


@pytest.mark.parametrize("provider", ["google_agent_engine", "eai_agent_service", "openai"])
def test_a_message_may_name_its_provider(deployment: Deployment, user: str, provider: str) -> None:
    result = deployment.client.answer(deployment.client.send(user, "Onde tomo vacina?", provider=provider))
    assert (result["status"], "vacina" in result["content"]) == ("completed", True)


def test_an_agent_that_fails_once_is_asked_again(deployment: Deployment, user: str) -> None:
    question = f"Que dia passa o caminhão do lixo? {user}"
    deployment.sandbox.order_fault(target="agent_engine", kind="status", status=503, times=1, match=user)
    result = deployment.client.answer(deployment.client.send(user, question))
    assert result["status"] == "completed"
    assert deployment.sandbox.questions().count(question) == 2


def test_an_agent_that_refuses_makes_the_message_fail_and_not_complete(deployment: Deployment, user: str) -> None:
    deployment.sandbox.order_fault(target="agent_engine", kind="status", status=400, match=user)
    result = deployment.client.answer(deployment.client.send(user, f"Oi {user}"))
    assert (result["status"], result["error_code"].startswith("AGENT_")) == ("failed", True)


def test_an_id_that_was_never_given_out_is_not_found(deployment: Deployment) -> None:
    response = deployment.client.poll(str(uuid.uuid4()))
    assert (response.status_code, response.json()["error"]) == (404, "Task not found")


def test_an_id_that_is_no_uuid_is_a_bad_request(deployment: Deployment) -> None:
    assert deployment.client.poll("abc").status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        pytest.param(b"{", 400, "JSON", id="malformed JSON"),
        pytest.param(b'{"user_number": 5521999990000, "message": "oi"}', 400, "user_number", id="wrong type"),
        pytest.param(b'{"user_number": "5521999990000", "message": "  "}', 400, "message", id="empty"),
        pytest.param(b'{"user_number": "5521999990000"}', 400, "message", id="missing field"),
        pytest.param(
            b'{"user_number": "5521999990000", "message": "' + b"a" * 4097 + b'"}', 400, "4096", id="too long"
        ),
        pytest.param(b'{"user_number": "12", "message": "oi"}', 400, "E.164", id="not a number"),
    ],
)
def test_a_bad_request_gets_a_json_error_that_says_what_is_wrong(
    deployment: Deployment, body: bytes, status: int, named: str
) -> None:
    response = deployment.client.http.post(
        f"{deployment.client.ingress_url}/api/v1/message/webhook/user",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    error = response.json()
    assert (response.status_code, named in error["message"]) == (status, True), error
    assert error["request_id"] == response.headers["x-request-id"]


def test_an_operator_sees_when_each_stage_had_a_message(deployment: Deployment, user: str) -> None:
    message_id = deployment.client.send(user, "Oi")
    deployment.client.answer(message_id)
    report = deployment.client.task_status(message_id)
    assert (report["status"], [entry["stage"] for entry in report["processing_log"]]) == (
        "completed",
        ["ingress", "agent-router", "formatter", "formatter"],
    )


def test_the_metrics_tell_what_was_done_and_how_deep_the_queues_are(deployment: Deployment, user: str) -> None:
    deployment.client.answer(deployment.client.send(user, "Oi"))
    told = "".join(deployment.metrics())
    assert 'external_api_calls_total{service="google_agent_engine",status="ok"}' in told
    assert 'message_queue_depth{queue="eai.agent-router"}' in told
    assert 'message_queue_depth{queue="eai.agent-router.dlq"}' in told
    assert 'rabbitmq_connection_status{status="connected"} 1.0' in told
    assert user not in told
