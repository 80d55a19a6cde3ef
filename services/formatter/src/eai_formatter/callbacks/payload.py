"""What a callback says: what a poll would have said, and the fields that receivers of the predecessor read."""

from __future__ import annotations

from datetime import timedelta

import orjson

from eai_common.messages import TaskCompleted, rfc3339

__all__ = ["payload_of"]


def payload_of(event: TaskCompleted) -> bytes:
    """The body as it goes over the wire: the same bytes at every try, so nothing in it may depend on the moment."""
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
