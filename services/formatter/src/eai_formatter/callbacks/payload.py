"""The body of a callback: what a poll would return, and the fields that receivers of the predecessor read."""

from __future__ import annotations

from datetime import timedelta

import orjson

from eai_common.messages import TaskCompleted, rfc3339

__all__ = ["build_payload"]


def build_payload(event: TaskCompleted) -> bytes:
    """Return the body as it is sent: the same bytes at every attempt, so nothing in it may depend on the time."""
    result = event.result
    took_ms = result.get("processing_time_ms")
    took = timedelta(milliseconds=took_ms if isinstance(took_ms, int) else 0)
    return orjson.dumps(
        {
            **result,
            "message_id": event.message_id,
            "status": event.status,
            "data": result.get("data"),
            "error": result.get("error"),
            "timestamp": rfc3339(event.timestamp + took),
            "processed_at": event.message_id,  # as in `data`: receivers of the predecessor read the id there
        }
    )
