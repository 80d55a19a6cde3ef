"""The command line's client of the gateway, against a gateway that does what a test tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from eai_cli.app import app
from eai_cli.gateway import Gateway, GatewayError
from eai_cli.recording import serve_recording

ID = "018f2b5e-0000-7000-8000-00000000abcd"
ACCEPTED = (202, {"message_id": ID, "status": "queued"})
PROCESSING = (202, {"status": "processing", "stage": "agent-router"})
COMPLETED = (200, {"status": "completed", "content": "Olá!", "transcript": None})
FAILED = (
    200,
    {"status": "failed", "content": "Desculpe", "error": "The agent is unavailable", "error_code": "AGENT_UNAVAILABLE"},
)
UNAUTHORIZED = (401, {"error": "Unauthorized", "message": "Invalid or missing authentication token"})
UNAVAILABLE = (503, {"error": "Service unavailable", "message": "please ask again"})

Answer = tuple[int, Any]


@dataclass
class FakeGateway:
    """Gives its answers one after the other, the last one again and again, and remembers what it was asked."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any] | None, str | None]] = field(default_factory=list)


@pytest.fixture()
def fake() -> Iterator[FakeGateway]:
    fake = FakeGateway("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.respond(None)

        def do_POST(self) -> None:  # noqa: N802
            self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def respond(self, body: dict[str, Any] | None) -> None:
            fake.asked.append((self.command, self.path, body, self.headers.get("Authorization")))
            status, content = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture()
def open_gateway(fake: FakeGateway) -> Iterator[Callable[..., Gateway]]:
    with httpx.Client(timeout=5, trust_env=False) as client:

        def opened(*answers: Answer, token: str = "") -> Gateway:
            fake.answers.extend(answers)
            return Gateway(fake.url + "/", token, client)

        yield opened


OpenGateway = Callable[..., Gateway]


def send(fake: FakeGateway, *answers: Answer, arguments: tuple[str, ...] = ("Oi",)) -> tuple[int, str, str]:
    fake.answers.extend(answers)
    done = CliRunner(env={"EAI_BASE_URL": fake.url}).invoke(app, ["send", *arguments])
    return done.exit_code, done.stdout, done.stderr


# The client


def test_a_message_is_posted_with_what_was_given_and_nothing_else(fake: FakeGateway, open_gateway: OpenGateway) -> None:
    message_id = open_gateway(ACCEPTED, token="hunter2").post("+5521999990000", "Oi", provider="openai")
    assert message_id == ID
    assert fake.asked == [
        (
            "POST",
            "/api/v1/message/webhook/user",
            {"user_number": "+5521999990000", "message": "Oi", "provider": "openai"},
            "Bearer hunter2",
        )
    ]


def test_without_a_token_none_is_sent(fake: FakeGateway, open_gateway: OpenGateway) -> None:
    open_gateway(ACCEPTED).post("+5521999990000", "Oi")
    assert fake.asked[0][3] is None


def test_a_gateway_for_the_predecessors_clients_accepts_with_201(open_gateway: OpenGateway) -> None:
    assert open_gateway((201, {"message_id": ID})).post("user_ab12cd34", "Oi") == ID


def test_the_result_is_polled_until_it_is_there_and_each_stage_is_told(
    fake: FakeGateway, open_gateway: OpenGateway
) -> None:
    stages: list[str] = []
    reply = open_gateway(PROCESSING, PROCESSING, COMPLETED).wait_for_reply(ID, wait_s=10, on_stage=stages.append)
    assert (reply.is_completed, reply.text, stages) == (True, "Olá!", ["agent-router", "agent-router"])
    assert {path for _, path, _, _ in fake.asked} == {f"/api/v1/message/response?message_id={ID}"}


def test_a_failed_message_is_a_reply_with_the_users_words(open_gateway: OpenGateway) -> None:
    reply = open_gateway(FAILED).wait_for_reply(ID, wait_s=10)
    assert (reply.is_completed, reply.text) == (False, "Desculpe")


def test_an_outage_while_polling_is_waited_out(open_gateway: OpenGateway) -> None:
    assert open_gateway(PROCESSING, UNAVAILABLE, COMPLETED).wait_for_reply(ID, wait_s=10).text == "Olá!"


@pytest.mark.parametrize("answer", [PROCESSING, UNAVAILABLE], ids=["processing", "outage"])
def test_a_result_that_does_not_come_in_time_can_be_asked_for_again(open_gateway: OpenGateway, answer: Answer) -> None:
    with pytest.raises(GatewayError, match=f"no answer after 0.2 s; ask again with message id {ID}"):
        open_gateway(answer).wait_for_reply(ID, wait_s=0.2)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (UNAUTHORIZED, "401 Unauthorized: Invalid or missing authentication token"),
        (UNAVAILABLE, "503 Service unavailable: please ask again"),
        ((502, b"<html>"), "502 Bad Gateway"),
        ((404, ["?"]), "404 Not Found"),
        ((200, b"<html>welcome"), "200 OK"),
        ((202, b"<html>"), "202 Accepted"),
        ((202, {"no": "id"}), "202 Accepted"),
    ],
)
def test_what_is_not_accepted_is_told_as_it_was_answered(open_gateway: OpenGateway, answer: Answer, told: str) -> None:
    with pytest.raises(GatewayError) as refused:
        open_gateway(answer).post("+5521999990000", "Oi")
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("answer", "told"), [((200, b"<html>"), "200 OK"), ((200, []), "200 OK"), ((410, {}), "410 Gone")]
)
def test_an_answer_that_is_no_result_is_told_as_it_came(open_gateway: OpenGateway, answer: Answer, told: str) -> None:
    with pytest.raises(GatewayError) as refused:
        open_gateway(answer).wait_for_reply(ID, wait_s=10)
    assert str(refused.value) == told


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nowhere", "ftp://127.0.0.1"])
def test_a_gateway_that_is_not_there_is_told_with_how_to_start_one(url: str) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(GatewayError, match="start one with ./eai up"):
        Gateway(url, client=client).post("+5521999990000", "Oi")


# ./eai send


def test_an_answer_is_printed_and_nothing_else(fake: FakeGateway) -> None:
    assert send(fake, ACCEPTED, COMPLETED)[:2] == (0, "Olá!\n")


def test_a_failure_prints_the_users_words_and_says_on_the_side_why(fake: FakeGateway) -> None:
    code, printed, said = send(fake, ACCEPTED, FAILED)
    assert (code, printed, "AGENT_UNAVAILABLE" in said) == (1, "Desculpe\n", True)


def test_the_raw_result_is_printed_as_it_came(fake: FakeGateway) -> None:
    code, printed, _ = send(fake, ACCEPTED, FAILED, arguments=("--json", "Oi"))
    assert (code, json.loads(printed)) == (1, FAILED[1])


def test_what_was_not_accepted_ends_with_2(fake: FakeGateway) -> None:
    code, printed, said = send(fake, UNAUTHORIZED)
    assert (code, printed, "401 Unauthorized" in said) == (2, "", True)


@pytest.mark.parametrize("arguments", [(), ("  ",), ("Oi", "--audio", __file__)], ids=["nothing", "blank", "both"])
def test_a_message_is_either_a_text_or_a_recording(fake: FakeGateway, arguments: tuple[str, ...]) -> None:
    code, _, said = send(fake, ACCEPTED, arguments=arguments)
    assert (code, "give either a text or --audio FILE" in said, fake.asked) == (2, True, [])


def test_a_recording_can_be_fetched_while_it_is_asked_for_and_not_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "minha gravação.ogg"
    file.write_bytes(b"OggS")
    with httpx.Client(trust_env=False) as client:
        with serve_recording(file) as url:
            assert client.get(url).content == b"OggS"
            assert client.get(url.rsplit("/", 1)[0] + "/other").status_code == 404
        with pytest.raises(httpx.ConnectError):
            client.get(url)
