"""What an operator is told of one message."""

from __future__ import annotations

from eai_common.store import TaskStatus
from eai_poller.timeline import task_report

FIELDS = {
    "created_at": "2026-01-01T10:00:00.000Z",
    "updated_at": "2026-01-01T10:00:09.000Z",
    "queued_at": "2026-01-01T10:00:00.000Z",
    "formatter:try:1:started_at": "2026-01-01T10:00:05.000Z",
    "transcriber:try:1:started_at": "2026-01-01T10:00:01.000Z",
    "agent-router:try:3:started_at": "2026-01-01T10:00:04.500Z",
    "agent-router:try:2:started_at": "2026-01-01T10:00:03.000Z",
    "agent-router:try:2:failed_at": "2026-01-01T10:00:03.250Z",
    "agent-router:try:2:error": "AGENT_TIMEOUT",
    "agent-router:try:2:next_in_ms": "1250",
    "finished_at": "2026-01-01T10:00:05.000Z",
    "attempts": "3",
    "last_error": "AGENT_TIMEOUT (next try in 5 s)",
    "callback:10": "tenth",
    "callback:2": "second",
    "callback:1": "first",
    "callback:state": "retrying",
}


def test_the_log_lists_the_stages_in_the_order_that_the_message_passed_them() -> None:
    log = task_report("id", TaskStatus("completed", "done", FIELDS)).processing_log
    assert [(entry.stage, entry.event) for entry in log] == [
        ("ingress", "queued"),
        ("transcriber", "started"),
        ("agent-router", "started"),
        ("agent-router", "failed"),
        ("agent-router", "started"),
        ("formatter", "started"),
        ("formatter", "finished"),
    ]


def test_callback_tries_are_listed_in_their_own_order() -> None:
    callback = task_report("id", TaskStatus("completed", "done", FIELDS)).callback
    assert callback.model_dump(by_alias=True) == {
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
    assert (report.retry_count, report.last_error) == (2, "AGENT_TIMEOUT (next try in 5 s)")


def test_a_message_that_was_only_queued_has_no_retries_and_no_errors() -> None:
    report = task_report("id", TaskStatus("processing", "agent-router", {"queued_at": "2026-01-01T10:00:00.000Z"}))
    assert (report.retry_count, report.last_error, report.queue_info.waiting_for) == (
        0,
        None,
        "agent-router",
    )


def test_a_failed_try_is_told_with_its_error_its_time_and_its_delay() -> None:
    log = task_report("id", TaskStatus("completed", "done", FIELDS)).processing_log
    failed = next(entry for entry in log if entry.event == "failed")
    assert (failed.attempt, failed.error_code, failed.took_ms, failed.next_try_in_s) == (2, "AGENT_TIMEOUT", 250, 1.25)


def test_each_stage_is_told_with_its_time_and_its_tries() -> None:
    stages = task_report("id", TaskStatus("completed", "done", FIELDS)).stages
    assert [(stage.stage, stage.took_ms, stage.attempts) for stage in stages] == [
        ("transcriber", 2000, 1),
        ("agent-router", 2000, 3),
        ("formatter", 0, 1),
    ]


def test_the_stage_that_has_the_message_has_no_end_yet() -> None:
    fields = {"formatter:try:1:started_at": "2026-01-01T10:00:05.000Z", "next_try_at": ""}
    report = task_report("id", TaskStatus("processing", "formatter", fields))
    assert (report.stages[0].took_ms, report.queue_info.next_try_at) == (None, None)
