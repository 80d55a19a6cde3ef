"""What every line of a request or a delivery carries, and what is collected for its one line."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eai_common.telemetry import add_to_line, collect_line, get_logger, log_context, time_to_line
from eai_common.telemetry.testing import captured_log
from eai_common.testing import pass_time

NUMBER = "+5521999990000"
MASKED = "+55•••••0000"


def test_what_is_bound_ends_with_its_block_and_is_redacted_too() -> None:
    with captured_log() as written:
        _write_three()
    bound = [{name: line.get(name) for name in ("message_id", "stage", "correlation_id")} for line in written.lines]
    assert bound == [
        {"message_id": "019a", "stage": "router", "correlation_id": f"chat-{MASKED}"},
        {"message_id": "018f", "stage": None, "correlation_id": f"chat-{MASKED}"},
        {"message_id": None, "stage": None, "correlation_id": None},
    ]


def _write_three() -> None:
    with log_context(message_id="018f", correlation_id=f"chat-{NUMBER}"):
        with log_context(stage="router", message_id="019a", queue=None):
            get_logger("eai").info("inner")
        get_logger("eai").info("outer")
    get_logger("eai").info("outside")


async def test_what_is_added_anywhere_in_a_block_is_collected_for_its_one_line() -> None:
    async def call_provider() -> None:
        add_to_line(ai_provider="google", agent_ms=12.5)

    with collect_line() as line:
        await asyncio.create_task(call_provider())
        add_to_line(outcome="done")
    add_to_line(outcome="belongs nowhere")
    assert line == {"ai_provider": "google", "agent_ms": 12.5, "outcome": "done"}


@pytest.mark.virtual_time()
async def test_the_times_of_several_calls_add_up_in_the_one_line() -> None:
    with collect_line() as line:
        for _ in range(2):
            with time_to_line("agent_ms"):
                await pass_time(timedelta(seconds=0.01))
    assert line["agent_ms"] == pytest.approx(20)
