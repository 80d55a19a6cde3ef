"""An operator's view of one message: where it is, what went wrong, and when each stage and callback ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from eai_common.store import TaskStatus

__all__ = ["TaskReport", "task_report"]

_ATTEMPT = ":try:"  # in the names of the status fields
_CALLBACK = "callback:"


class LogEntry(BaseModel):
    """One event of the message. A failed attempt has its error code and the seconds until the next attempt."""

    stage: str = Field(examples=["agent-router"])
    event: Literal["queued", "started", "failed", "finished"]
    at: str
    attempt: int | None = None
    took_ms: int | None = Field(default=None, description="How long the failed attempt took.")
    error_code: str | None = None
    next_try_in_s: float | None = Field(default=None, description="Absent if it was the last attempt.")


class StageReport(BaseModel):
    """A stage with all its attempts. `took_ms` ends when the next stage starts, so it includes that stage's queue."""

    stage: str
    started_at: str
    ended_at: str | None
    took_ms: int | None
    attempts: int


class QueueInfo(BaseModel):
    """The stage that the message waits for."""

    waiting_for: str | None
    next_try_at: str | None = None


class CallbackAttempt(BaseModel):
    """One attempt to deliver the callback."""

    number: int = Field(serialization_alias="try")
    result: str


class CallbackReport(BaseModel):
    """The state of the callback."""

    state: str | None
    last_error: str | None
    tries: list[CallbackAttempt]


class TaskReport(BaseModel):
    """All that is stored of a message except its texts and its user."""

    message_id: str
    status: Literal["processing", "completed", "failed"]
    stage: str
    created_at: str | None
    updated_at: str | None
    retry_count: int = Field(ge=0)
    last_error: str | None
    queue_info: QueueInfo
    stages: list[StageReport]
    processing_log: list[LogEntry]
    callback: CallbackReport


def task_report(message_id: str, status: TaskStatus) -> TaskReport:
    """The body of `debug/task-status`."""
    fields = status.fields
    log = sorted(_entries(fields), key=lambda entry: entry.at)  # RFC 3339 in UTC sorts as text; stable for equal times
    return TaskReport(
        message_id=message_id,
        status=status.status,
        stage=status.stage,
        created_at=fields.get("created_at"),
        updated_at=fields.get("updated_at"),
        retry_count=max(0, _number(fields.get("attempts", "1")) - 1),
        last_error=fields.get("last_error"),
        queue_info=QueueInfo(
            waiting_for=None if status.is_terminal else status.stage, next_try_at=fields.get("next_try_at") or None
        ),
        stages=_stages(log, fields.get("finished_at")),
        processing_log=log,
        callback=CallbackReport(
            state=fields.get("callback:state"),
            last_error=fields.get("callback:last_error"),
            tries=_callback_attempts(fields),
        ),
    )


def _entries(fields: Mapping[str, str]) -> Iterator[LogEntry]:
    if "queued_at" in fields:
        yield LogEntry(stage="ingress", event="queued", at=fields["queued_at"])
    for name, at in fields.items():
        stage, is_attempt, rest = name.partition(_ATTEMPT)
        number, _, what = rest.partition(":")
        if is_attempt and what == "started_at":
            yield LogEntry(stage=stage, event="started", at=at, attempt=_number(number))
        elif is_attempt and what == "failed_at":
            yield _failed(fields, f"{stage}{_ATTEMPT}{number}", stage, _number(number))
    if "finished_at" in fields:
        yield LogEntry(stage="formatter", event="finished", at=fields["finished_at"])


def _failed(fields: Mapping[str, str], attempt_name: str, stage: str, attempt: int) -> LogEntry:
    at, began, next_in = (
        fields[f"{attempt_name}:failed_at"],
        fields.get(f"{attempt_name}:started_at"),
        fields.get(f"{attempt_name}:next_in_ms"),
    )
    return LogEntry(
        stage=stage,
        event="failed",
        at=at,
        attempt=attempt,
        took_ms=_between(began, at),
        error_code=fields.get(f"{attempt_name}:error"),
        next_try_in_s=None if next_in is None else _number(next_in) / 1000,
    )


def _stages(log: list[LogEntry], finished_at: str | None) -> list[StageReport]:
    """The stages, ordered by their first start."""
    firsts = {entry.stage: entry for entry in reversed(log) if entry.event == "started"}
    order = sorted(firsts.values(), key=lambda entry: entry.at)
    ends = [*(entry.at for entry in order[1:]), finished_at][: len(order)]  # empty if no stage has started
    return [
        StageReport(
            stage=first.stage,
            started_at=first.at,
            ended_at=end,
            took_ms=_between(first.at, end),
            attempts=max((entry.attempt or 1 for entry in log if entry.stage == first.stage), default=1),
        )
        for first, end in zip(order, ends, strict=True)
    ]


def _callback_attempts(fields: Mapping[str, str]) -> list[CallbackAttempt]:
    numbered = [
        (int(number), result)
        for name, result in fields.items()
        if name.startswith(_CALLBACK) and (number := name.removeprefix(_CALLBACK)).isdecimal()
    ]
    return [CallbackAttempt(number=number, result=result) for number, result in sorted(numbered)]


def _between(began: str | None, ended: str | None) -> int | None:
    if began is None or ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)) // timedelta(milliseconds=1)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
