"""The assistant itself: what it says, what it remembers, what it forgets."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_sandbox.answers import asks_what_was_said, normalise
from eai_sandbox.brain import Brain, IncomingMessage
from eai_sandbox.calls import Call, CallLog, Target
from eai_sandbox.conversation import Role, Threads
from eai_sandbox.multipart import form_parts
from eai_sandbox.refusal import Refused

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def brain(*, max_threads: int = 10, max_messages: int = 10) -> Brain:
    ids = count(1)
    return Brain(
        Threads(max_threads=max_threads, max_messages=max_messages), now=lambda: NOON, new_id=lambda: str(next(ids))
    )


def ask(asked: Brain, thread: str, question: str) -> str:
    return asked.ask(thread, [IncomingMessage(Role.HUMAN, question)])[-1].text


def test_a_message_whose_id_the_thread_has_takes_the_old_ones_place() -> None:
    asked = brain()
    for _ in range(2):
        asked.ask("a", [IncomingMessage(Role.AI, "Quer?", message_id="before"), IncomingMessage(Role.HUMAN, "Sim")])
    texts = [
        message.text for message in asked.threads.of("a") if message.role is not Role.AI or message.text == "Quer?"
    ]
    assert texts == ["Quer?", "Sim", "Sim"]


@pytest.mark.parametrize(
    "question",
    [
        "O que eu disse antes?",
        "o que eu disse antes",
        "O QUE EU DISSE ANTES???",
        "Oi! O quê eu disse, antes?",
        "oq eu disse antes?",
        "o q eu dise antes",
        "o que foi que eu falei?",
        "que eu te perguntei antes?",
        "o qeu eu disse ants?",
        "Qual foi a minha última mensagem?",
        "what did i say before",
    ],
)
def test_the_question_for_what_was_said_is_known_in_many_spellings(question: str) -> None:
    assert asks_what_was_said(question)


@pytest.mark.parametrize("question", ["O que eu faço agora?", "Quem disse isso?", "Onde pago o IPTU?", "", "antes"])
def test_other_questions_are_not_taken_for_it(question: str) -> None:
    assert not asks_what_was_said(question)


def test_the_previous_message_is_repeated_in_full() -> None:
    assistant = brain()
    ask(assistant, "a", "Moro na rua X\nnúmero 7")
    assert "> Moro na rua X\n> número 7" in ask(assistant, "a", "o que eu disse antes?")


def test_the_least_recently_used_thread_is_forgotten_first() -> None:
    assistant = brain(max_threads=2)
    for thread in ("a", "b", "a", "c"):
        ask(assistant, thread, f"sou {thread}")
    assert "> sou a" in ask(assistant, "a", "o que eu disse antes?")
    assert "primeira mensagem" in ask(assistant, "b", "o que eu disse antes?")


def test_a_thread_keeps_its_latest_messages() -> None:
    assistant = brain(max_messages=4)
    for number in range(10):
        ask(assistant, "a", str(number))
    assert [m.text for m in assistant.threads.of("a") if m.role is Role.HUMAN] == ["8", "9"]


def test_a_clients_own_message_id_is_kept() -> None:
    asked, _ = brain().ask("a", [IncomingMessage(Role.HUMAN, "Oi", "mine")])
    assert asked.message_id == "mine"


@pytest.mark.parametrize("said", [[], [IncomingMessage(Role.AI, "Oi")]], ids=["nothing", "the assistant"])
def test_there_is_no_answer_when_the_user_did_not_speak_last(said: list[IncomingMessage]) -> None:
    with pytest.raises(ValueError, match="by the user"):
        brain().ask("a", said)


@given(st.text())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(min_size=1).filter(str.strip))
def test_every_question_is_answered(question: str) -> None:
    assert ask(brain(), "a", question)


def test_the_record_of_calls_is_bounded_and_goes_on_counting() -> None:
    calls = CallLog(limit=2, now=lambda: NOON)
    for content in "abc":
        calls.start(Call(Target.EAI, "http", "get", content))
    assert ([call.content for call in calls.of()], calls.total) == (["b", "c"], 3)


@given(st.binary().filter(lambda content: b"--line" not in content))
def test_a_file_comes_out_of_a_form_as_it_went_in(content: bytes) -> None:
    body = (
        b'--line\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + content
        + b"\r\n--line--\r\n"
    )
    assert form_parts("multipart/form-data; boundary=line", body) == {"file": content}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{}"), ("multipart/form-data", b""), ("multipart/form-data; boundary=line", b"--line\r\n")],
    ids=["not a form", "no boundary", "no end"],
)
def test_a_body_that_is_no_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(Refused):
        form_parts(content_type, body)
