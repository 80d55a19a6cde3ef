"""The answers as a stream of Server-Sent Events: `status` for each stage, and `result` at the end.

Source of the format: the HTML standard, section 9.2. This does not use sse-starlette. That library replaces uvicorn's
signal handler on import, checks twice a second whether to end, and runs four tasks for each stream. Here the service
reports when it drains, and two tasks are enough.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import orjson
from starlette.types import Receive, Scope, Send

from eai_common.clock import Deadline
from eai_common.store import StoreUnavailable, Subscription
from eai_poller.answer import Answer, State
from eai_poller.wait_limit import READ_AGAIN_S, WaitLimit, end_on_disconnect

__all__ = ["RESULT_ID", "EventStream", "event"]

RESULT_ID = "result"
"""The id of the last event. A client that has seen it needs no more events."""

_HEARTBEAT = b": heartbeat\n\n"
_RECONNECT = b"retry: 2000\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),  # a proxy that compresses would also buffer
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept"),
]


@dataclass(frozen=True, slots=True)
class EventStream:
    """The response. `first` is the answer at the start; a message that expired or is unknown has no stream.

    It counts against `wait_limit` until the client disconnects.
    """

    wait_limit: WaitLimit
    message_id: UUID
    first: Answer
    last_seen: str
    heartbeat: timedelta

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.wait_limit.subscribe(self.message_id, wants_moves=True) as subscription:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
            async with end_on_disconnect(subscription, receive):
                async for chunk in self._chunks(subscription):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self, subscription: Subscription) -> AsyncIterator[bytes]:
        yield _RECONNECT
        answer: Answer | None = self.first
        seen = self.last_seen
        beat = self._next_beat()
        while True:
            if answer is not None and answer.state is not State.PROCESSING:
                yield event(RESULT_ID, "result", _final(answer))
                return
            if answer is not None and answer.stage != seen:
                seen, beat = answer.stage, self._next_beat()
                yield event(seen, "status", orjson.dumps({"status": "processing", "stage": seen}))
            await subscription.changed(within_s=min(beat.remaining_s(), READ_AGAIN_S if answer is None else math.inf))
            if subscription.is_over:  # the client reconnects with the last id, to another process if this one drains
                return
            if beat.has_passed:
                beat = self._next_beat()
                yield _HEARTBEAT
            answer = await self._read()

    def _next_beat(self) -> Deadline:
        return Deadline.after(self.heartbeat)

    async def _read(self) -> Answer | None:
        """None while Redis is out of reach."""
        try:
            return await self.wait_limit.lookup.answer(self.message_id)
        except StoreUnavailable:
            return None


def event(event_id: str, name: str, data: bytes) -> bytes:
    """Encode one event. `data` may contain line ends."""
    lines = b"".join(b"data: %s\n" % line for line in data.splitlines() or [b""])
    return b"id: %s\nevent: %s\n%s\n" % (event_id.encode(), name.encode(), lines)


def _final(answer: Answer) -> bytes:
    if answer.state is State.FINISHED:
        return answer.result
    # The client missed the result by minutes, or Redis lost it. A stream must have a last event, so it says so.
    return orjson.dumps({"status": "failed", "error": "Result expired", "error_code": "RESULT_EXPIRED"})
