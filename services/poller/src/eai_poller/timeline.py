"""What an operator is told of one message: where it is, what went wrong, and when each stage and callback had it."""

from __future__ import annotations

from pydantic import JsonValue

from eai_common.store import TaskStatus

__all__ = ["task_report"]

_STARTED = ":started_at"
_CALLBACK = "callback:"


def task_report(message_id: str, status: TaskStatus) -> dict[str, JsonValue]:
    """The body of `debug/task-status`. Holds no text and no number of the user's."""
    fields = status.fields
    attempts = fields.get("attempts", "1")
    return {
        "message_id": message_id,
        "status": status.status,
        "stage": status.stage,
        "created_at": fields.get("created_at"),
        "updated_at": fields.get("updated_at"),
        "retry_count": max(0, int(attempts) - 1) if attempts.isdecimal() else 0,
        "last_error": fields.get("last_error"),
        "queue_info": {"waiting_for": status.stage if not status.is_terminal else None},
        "processing_log": [*_stages(fields)],
        "callback": {
            "state": fields.get("callback:state"),
            "last_error": fields.get("callback:last_error"),
            "tries": [*_callback_tries(fields)],
        },
    }


def _stages(fields: dict[str, str]) -> list[JsonValue]:
    """Each event with its time, in the order that they happened."""
    events = [("ingress", "queued", fields["queued_at"])] if "queued_at" in fields else []
    events += [(name.removesuffix(_STARTED), "started", at) for name, at in fields.items() if name.endswith(_STARTED)]
    events += [("formatter", "finished", fields["finished_at"])] if "finished_at" in fields else []
    events.sort(
        key=lambda event: event[2]
    )  # RFC 3339 in UTC sorts as text; stable, so equal times keep the order above
    return [{"stage": stage, "event": event, "at": at} for stage, event, at in events]


def _callback_tries(fields: dict[str, str]) -> list[JsonValue]:
    numbered = [
        (int(number), told)
        for name, told in fields.items()
        if name.startswith(_CALLBACK) and (number := name.removeprefix(_CALLBACK)).isdecimal()
    ]
    return [{"try": number, "result": told} for number, told in sorted(numbered)]
