"""One user's messages are answered in the order in which they were sent, across voice and text."""

from __future__ import annotations

from pathlib import Path

from e2e.deployment import Deployment

from eai_cli.recording import serve_recording


def test_a_text_sent_right_after_a_long_audio_is_answered_after_it(
    deployment: Deployment, user: str, spoken_question: Path
) -> None:
    client, sandbox = deployment.client, deployment.sandbox
    sandbox.forget_calls()
    sandbox.order_fault(target="speech", kind="latency", seconds=3)
    try:
        with serve_recording(spoken_question, deployment.host) as url:
            audio = client.send(user, url)
            text = client.send(user, "E quanto custa?")
            answers = [client.answer(message_id) for message_id in (text, audio)]
    finally:
        sandbox.clear_faults()
    assert [answer["status"] for answer in answers] == ["completed", "completed"]
    assert sandbox.questions() == ["where can i get a new passport", "E quanto custa?"]


def test_an_audio_that_cannot_be_transcribed_does_not_hold_up_the_text_after_it(
    deployment: Deployment, user: str
) -> None:
    client, sandbox = deployment.client, deployment.sandbox
    sandbox.forget_calls()
    audio = client.send(user, "http://10.0.0.1/voz.ogg", message_type="audio")
    text = client.send(user, "Você me ouviu?")
    assert client.answer(text, within_s=20)["status"] == "completed"
    assert client.answer(audio)["error_code"] == "AUDIO_URL_REFUSED"
    assert sandbox.questions() == ["Você me ouviu?"]


def test_an_update_of_the_history_takes_its_place_behind_what_was_sent_before(
    deployment: Deployment, user: str
) -> None:
    client, sandbox = deployment.client, deployment.sandbox
    sandbox.forget_calls()
    sandbox.order_fault(target="agent_engine", kind="latency", seconds=2, match="Primeiro")
    try:
        first = client.send(user, "Primeiro isto")
        response = client.http.post(
            f"{client.ingress_url}/api/v1/message/webhook/update_history",
            json={"user_number": user, "messages": [{"content": "Depois aquilo", "role": "human"}]},
        )
    finally:
        sandbox.clear_faults()
    assert response.status_code == 200, response.text
    assert client.answer(first)["status"] == "completed"
    assert sandbox.questions() == ["Primeiro isto", "Depois aquilo"]
