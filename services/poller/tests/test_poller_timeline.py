"""What an operator is told of one message."""

from __future__ import annotations

from eai_common.store import TaskStatus
from eai_poller.timeline import task_report

FIELDS = {
    "created_at": "2026-01-01T10:00:00.000Z",
    "updated_at": "2026-01-01T10:00:09.000Z",
    "queued_at": "2026-01-01T10:00:00.000Z",
    "formatter:started_at": "2026-01-01T10:00:05.000Z",
    "transcriber:started_at": "2026-01-01T10:00:01.000Z",
    "agent-router:started_at": "2026-01-01T10:00:03.000Z",
    "finished_at": "2026-01-01T10:00:05.000Z",
    "attempts": "3",
    "last_error": "AGENT_TIMEOUT (next try in 5 s)",
    "callback:10": "tenth",
    "callback:2": "second",
    "callback:1": "first",
    "callback:state": "retrying",
}


def test_the_log_lists_the_stages_in_the_order_that_the_message_passed_them() -> None:
    log = task_report("id", TaskStatus("completed", "done", FIELDS))["processing_log"]
    assert isinstance(log, list)
    assert [(entry["stage"], entry["event"]) for entry in log if isinstance(entry, dict)] == [
        ("ingress", "queued"),
        ("transcriber", "started"),
        ("agent-router", "started"),
        ("formatter", "started"),
        ("formatter", "finished"),
    ]


def test_callback_tries_are_listed_in_their_own_order() -> None:
    callback = task_report("id", TaskStatus("completed", "done", FIELDS))["callback"]
    assert callback == {
        "state": "retrying",
        "last_error": None,
        "tries": [
            {"try": 1, "result": "first"},
            {"try": 2, "result": "second"},
            {"try": 10, "result": "tenth"},
        ],
    }


def test_retries_are_the_attempts_after_the_first() -> None:
    report = task_report("id", TaskStatus("processing", "agent-router", FIELDS))
    assert (report["retry_count"], report["last_error"]) == (2, "AGENT_TIMEOUT (next try in 5 s)")


def test_a_message_that_was_only_queued_has_no_retries_and_no_errors() -> None:
    report = task_report("id", TaskStatus("processing", "agent-router", {"queued_at": "2026-01-01T10:00:00.000Z"}))
    assert (report["retry_count"], report["last_error"], report["queue_info"]) == (
        0,
        None,
        {"waiting_for": "agent-router"},
    )
