"""Logs: one line for each event, with no secret and no whole user number in it, whichever way it came in."""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from eai_common.settings import TelemetrySettings
from eai_common.telemetry import (
    configure_logging,
    get_logger,
    log_context,
    masked_number,
    redacted,
)
from eai_common.telemetry.testing import CapturedLog, captured_log

NUMBER = "+5521999990000"
MASKED = "+55•••••0000"
SECRET = "hunter2-hunter2"

OpenLog = Callable[..., CapturedLog]


@pytest.fixture()
def log_to() -> Iterator[OpenLog]:
    """Configures logging with the settings' variables; everything is put back afterwards."""
    with ExitStack() as stack:
        yield lambda **environ: stack.enter_context(captured_log(service="formatter", **environ))


# What a line is


def test_an_event_is_one_line_of_json_with_its_fields_level_service_and_time(log_to: OpenLog) -> None:
    written = log_to()
    get_logger("eai.stage").info("delivery_retried", attempt=2, delay_s=30.0)
    line = written.line
    assert datetime.fromisoformat(str(line.pop("timestamp"))).tzinfo == UTC
    assert line == {
        "event": "delivery_retried",
        "attempt": 2,
        "delay_s": 30.0,
        "level": "info",
        "logger": "eai.stage",
        "service": "formatter",
        "worker_id": f"{socket.gethostname()}/{os.getpid()}",
    }


def test_the_libraries_own_logs_come_in_the_same_form(log_to: OpenLog) -> None:
    written = log_to()
    logging.getLogger("some.library").warning("lost %s", NUMBER)
    line = written.line
    told = line["event"], line["level"], line["logger"], line["service"]
    assert told == (f"lost {MASKED}", "warning", "some.library", "formatter")


def test_what_is_bound_once_is_on_every_line_of_the_task(log_to: OpenLog) -> None:
    written = log_to()
    with log_context(message_id="018f"):
        get_logger("eai").info("first")
        logging.getLogger("library").warning("second")
    assert [line["message_id"] for line in written.lines] == ["018f", "018f"]


def test_a_logger_that_was_used_before_follows_a_new_configuration(log_to: OpenLog) -> None:
    log = get_logger("eai")
    first = log_to(LOG_LEVEL="warning")
    log.warning("first")
    second = log_to(LOG_LEVEL="info")
    log.info("second")
    assert [line["event"] for line in (first.line, second.line)] == ["first", "second"]


@pytest.mark.parametrize(("level", "name"), [(25, "info"), (logging.FATAL + 20, "critical")])
def test_a_level_that_a_library_invented_is_written_as_the_one_below(log_to: OpenLog, level: int, name: str) -> None:
    written = log_to()
    logging.getLogger("library").log(level, "odd")
    assert written.line["level"] == name


def test_a_librarys_traceback_is_inside_its_line(log_to: OpenLog) -> None:
    written = log_to()
    try:
        raise ValueError(f"no thread for {NUMBER}")
    except ValueError:
        logging.getLogger("library").exception("failed")
    assert f"ValueError: no thread for {MASKED}" in str(written.line["exception"])


def test_a_traceback_is_inside_its_line(log_to: OpenLog) -> None:
    written = log_to()
    try:
        raise ValueError(f"no thread for {NUMBER}")
    except ValueError:
        get_logger("eai").exception("handler_failed_unexpectedly")
    assert f"ValueError: no thread for {MASKED}" in str(written.line["exception"])


def test_what_is_less_severe_than_the_level_is_not_logged(log_to: OpenLog) -> None:
    written = log_to(LOG_LEVEL="WARNING")
    get_logger("eai").info("too_small")
    logging.getLogger("library").info("too small")
    assert written.text == ""


@pytest.mark.parametrize("library", ["httpx", "aiormq", "uvicorn.access", "grpc"])
def test_chatty_libraries_are_only_heard_when_something_is_wrong(log_to: OpenLog, library: str) -> None:
    written = log_to(LOG_LEVEL="debug")
    logging.getLogger(library).info("request sent")
    assert written.text == ""


def test_text_format_is_for_people_and_as_redacted(log_to: OpenLog) -> None:
    written = log_to(LOG_FORMAT="text")
    get_logger("eai").info("message_accepted", user=NUMBER, error=ValueError(NUMBER), password=SECRET)
    assert "message_accepted" in written.text
    assert NUMBER not in written.text
    assert SECRET not in written.text


def test_a_value_that_json_does_not_know_is_written_as_text(log_to: OpenLog) -> None:
    written = log_to()
    get_logger("eai").info("odd", path=complex(1, 2), at=datetime(2026, 1, 1, 10, 30, tzinfo=UTC), many={"one"})
    line = written.line
    assert (line["path"], line["at"], line["many"]) == ("(1+2j)", "2026-01-01T10:30:00+00:00", ["one"])


class Unprintable:
    """A value without a text form."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "written"),
    [("half \ud83d", "half \ud83d"), (2**70, 2**70), (Unprintable(), None), (CIRCLE, None)],
    ids=["half of a surrogate pair", "more than 64 bits", "no text form", "contains itself"],
)
def test_a_value_that_cannot_be_written_costs_its_line_and_fails_no_caller(
    log_to: OpenLog, value: object, written: object
) -> None:
    log = log_to()
    get_logger("eai").info("odd", value=value)
    assert (log.line["event"], log.line.get("value")) == ("odd", written)


def test_what_is_left_of_a_line_that_cannot_be_written_is_redacted_too(log_to: OpenLog) -> None:
    log = log_to()
    get_logger("eai").info(f"lost {NUMBER}", value=Unprintable())
    assert log.line["event"] == f"lost {MASKED}"


class Broken(io.BytesIO):
    """A pipe that nobody reads any more."""

    def write(self, _: object) -> int:
        raise BrokenPipeError


def test_an_output_that_is_gone_fails_no_caller() -> None:
    with captured_log() as log:
        configure_logging(TelemetrySettings.read({}), service="tester", output=Broken())
        get_logger("eai").info("lost")
        logging.getLogger("library").warning("lost")
    assert log.lines == []


# Secrets


@dataclass
class Connection:
    """A value whose text form tells too much."""

    url: str


@pytest.mark.parametrize(
    "fields",
    [
        {"api_token": SECRET},
        {"password": SECRET},
        {"Authorization": SECRET},
        {"x_api_key": SECRET},
        {"client_secret": SECRET},
        {"token": SECRET.encode()},
        {"tokens": [SECRET, "another"]},
        {"credentials": {"user": "x", "phrase": SECRET}},
        {"headers": {"authorization": f"Bearer {SECRET}", "set-cookie": SECRET}},
        {"headers": [{"cookie": SECRET}]},
        {"url": f"amqp://user:{SECRET}@rabbit:5672/"},
        {"url": f"redis://:{SECRET}@redis:6379/0"},
        {"url": f"amqp://user:p@{SECRET}@rabbit:5672/"},
        {"error": ConnectionError(f"cannot reach amqp://user:{SECRET}@rabbit")},
        {"error": f"401 for Authorization: Bearer {SECRET}"},
        {"error": f"GET https://host/x?id=1&access_token={SECRET}&page=2"},
        {"error": f"GET https://storage/x?X-Goog-Signature={SECRET}"},
        {"error": f'refused {{"api_key": "{SECRET}"}}'},
        {"error": f"refused {{'password': '{SECRET}'}}"},
        {"connection": Connection(f"redis://:{SECRET}@redis")},
        {"raw": f"redis://:{SECRET}@redis".encode()},
        {"setting": SecretStr(SECRET)},
    ],
    ids=lambda fields: repr(fields)[:60],
)
def test_no_secret_is_logged(log_to: OpenLog, fields: dict[str, Any]) -> None:
    written = log_to()
    get_logger("eai").info("happened", **fields)
    assert SECRET not in written.text


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path?mail=ana@example.org",
        "prompt_token_count=5",
        "unexpected token: comma",
        "redis://redis:6379/0",
        "the secret of a good answer",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_counts_of_tokens_stay() -> None:
    assert redacted({"usage": {"total_tokens": 5}, "tokens": [1, 2]}) == {
        "usage": {"total_tokens": 5},
        "tokens": [1, 2],
    }


def test_the_rest_of_an_address_stays_readable() -> None:
    assert redacted(f"amqp://user:{SECRET}@rabbit:5672/vhost") == "amqp://user:[hidden]@rabbit:5672/vhost"


# Users' numbers

NUMBERS = st.from_regex(r"\+[1-9][0-9]{7,14}|[1-9][0-9]{9,14}", fullmatch=True)
BEFORE = st.sampled_from(
    ["", "user ", "user=", '{"user_number":"', "to:", "user_", "thread:{", "/users/", "(", "a.", "id-"]
)
AFTER = st.sampled_from(
    ["", " failed", ": failed", '"}', "}", "/messages", ".", ", again", ")", "-x", "_x", "@c.us", ".json"]
)


@given(BEFORE, NUMBERS, AFTER)
@example("user ", NUMBER, ": not found")
@example("user_", NUMBER, "")
@example("whatsapp:", "5521999990000", "")
def test_no_whole_number_is_in_a_text(before: str, number: str, after: str) -> None:
    assert number.removeprefix("+") not in str(redacted(f"{before}{number}{after}"))


@pytest.mark.parametrize(
    "fields",
    [
        {"user": NUMBER},
        {"user_number": "+12345678"},
        {"error": ValueError(f"no thread for {NUMBER}")},
        {"raw": NUMBER.encode()},
        {"numbers": (NUMBER, "x")},
        {"per_user": {NUMBER: 3}},
        {"nested": [{"thread_id": NUMBER}]},
    ],
    ids=lambda fields: repr(fields)[:60],
)
def test_no_whole_number_is_logged(log_to: OpenLog, fields: dict[str, Any]) -> None:
    written = log_to()
    get_logger("eai").info("happened", **fields)
    assert not any(number in written.text for number in (NUMBER[1:], "12345678"))


@given(
    st.uuids(), st.sampled_from(["{}", "message {} done", "checkpoint:{{{}}}:router", "{}.", "id={},", "message_{}"])
)
@example(UUID("00000000-0000-4000-8000-123456789012"), "message_{}")
def test_a_message_id_is_left_alone(message_id: UUID, around: str) -> None:
    text = around.format(message_id)
    assert redacted(text) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_left_alone(moment: datetime) -> None:
    assert redacted(moment.isoformat()) == moment.isoformat()


@pytest.mark.parametrize(
    "text",
    [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "took 0.1234567890123 s",
        "127.0.0.1:5672",
        "a1234567890b",
        "sequence 123456789",
    ],
)
def test_what_is_no_number_of_a_user_is_left_alone(text: str) -> None:
    assert redacted(text) == text


@given(st.text() | st.builds("{} {}".format, BEFORE, NUMBERS))
def test_what_was_redacted_once_does_not_change_again(text: str) -> None:
    once = redacted({"event": text, "user": text})
    assert redacted(once) == once


def test_masking_can_be_turned_off_and_secrets_stay_hidden(log_to: OpenLog) -> None:
    written = log_to(MASK_USER_NUMBERS="false")
    get_logger("eai").info("happened", user=NUMBER, error=f"{NUMBER} with Bearer {SECRET}", api_token=SECRET)
    assert (written.line["user"], written.line["error"]) == (NUMBER, f"{NUMBER} with Bearer [hidden]")
    assert SECRET not in written.text


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (NUMBER, MASKED),
        ("5521999990000", "552•••••0000"),
        ("+12345678", "+1•••78"),
        ("user_ab12cd34", "use•••••cd34"),
        ("abcdef", "ab•••ef"),
        ("abc", "•••"),
        ("", "•••"),
    ],
)
def test_a_masked_number_can_be_recognised_and_not_called(number: str, masked: str) -> None:
    assert masked_number(number) == masked


@given(st.text(min_size=1, max_size=64))
def test_a_masked_number_hides_two_characters_at_least(number: str) -> None:
    shown = sum(len(part) for part in masked_number(number).split("•"))
    assert shown <= max(0, len(number) - 2)
