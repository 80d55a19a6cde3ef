"""What ingress logs of a message: one line, which its client and its stages can be joined on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eai_common.telemetry.testing import CapturedLog, captured_log
from eai_ingress.testing import open_ingress

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
LISTED = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
CHANGING = ("timestamp", "duration_ms", "span_id", "worker_id")


@pytest.fixture()
def logged() -> Iterator[CapturedLog]:
    with captured_log(service="ingress") as captured:
        yield captured


async def test_an_accepted_message_is_one_line(logged: CapturedLog) -> None:
    async with open_ingress() as ingress:
        answer = await ingress.post(x_request_id="one", x_correlation_id="chat-7", traceparent=TRACEPARENT)
    line = logged.line
    assert all(line.pop(name) for name in CHANGING)
    assert line == {
        "level": "info",
        "logger": "eai.http",
        "service": "ingress",
        "event": "request_answered",
        "method": "POST",
        "endpoint": "/api/v1/message/webhook/user",
        "status": 202,
        "request_id": "one",
        "correlation_id": "chat-7",
        "trace_id": TRACE,
        "message_id": answer.json()["message_id"],
        "user_number": "+55•••••0000",
        "message_type": "text",
        "stage": "ingress",
        "outcome": "accepted",
    }


async def test_the_page_on_operations_lists_every_field(logged: CapturedLog) -> None:
    async with open_ingress() as ingress:
        await ingress.post()
    assert set(logged.line) <= LISTED


@pytest.mark.parametrize(
    ("headers", "correlation_id"),
    [({"x_correlation_id": "chat-7", "x_request_id": "one"}, "chat-7"), ({"x_request_id": "one"}, "one")],
)
async def test_the_correlation_id_goes_with_the_message(headers: dict[str, str], correlation_id: str) -> None:
    async with open_ingress() as ingress:
        await ingress.post(**headers)
        assert ingress.queued().headers["x-correlation-id"] == correlation_id


async def test_a_replay_is_a_line_with_the_first_messages_id(logged: CapturedLog) -> None:
    async with open_ingress() as ingress:
        answers = [await ingress.post(idempotency_key="k") for _ in range(2)]
    message_id = answers[0].json()["message_id"]
    logged_of = [(line["message_id"], line["outcome"]) for line in logged.lines]
    assert logged_of == [(message_id, "accepted"), (message_id, "replayed")]


async def test_without_the_log_of_requests_a_message_still_has_its_line(logged: CapturedLog) -> None:
    async with open_ingress(ENABLE_REQUEST_LOGGING="false") as ingress:
        await ingress.post({"user_number": "nobody"})
        await ingress.post()
    assert logged.line["outcome"] == "accepted"
