"""The API description of the poller's routes: its part of `/openapi.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eai_common.http.openapi import COMMON_ERRORS, RETRY_AFTER, Answer, Header, Operation, Schema
from eai_common.results import ResultAnswer
from eai_common.user_numbers import OPAQUE_USER_NUMBER_PATTERN
from eai_poller.bodies import ActivityAnswer, ProcessingAnswer
from eai_poller.query import ActivityQuery, MessageQuery, ResponseQuery
from eai_poller.timeline import TaskReport

__all__ = ["poller_operations"]

_MESSAGE_ID = "019b7f3e-6a10-7cc1-a3c4-5d2f8e1b9a70"
_USUAL = (400, 401, 403, 404, 405, 429, 500, 503)
_CALLERS_ID = Header("X-Request-ID", "The caller's id for this request, up to 128 printable ASCII characters.")
_LAST_SEEN = Header("Last-Event-ID", "For a stream: the id of the last received event. Browsers send it by themselves.")
_EVENTS = (
    "One `status` event for each stage, with the `status` and `stage` of a `ProcessingAnswer`. One `result` event at "
    "the end, also for a message that failed. A comment every 15 seconds keeps the stream open. To resume a stream, "
    "send the last id as `Last-Event-ID`."
)


def poller_operations(*, like_predecessor: bool) -> list[Operation]:
    """The operations with this setting of API_COMPATIBILITY, in the order of use."""
    settled = {"user_number": {"pattern": OPAQUE_USER_NUMBER_PATTERN}} if like_predecessor else {}
    return [_response(), _last_activity(settled), _task_status()]


def _response() -> Operation:
    return Operation(
        method="GET",
        path="/api/v1/message/response",
        name="getResponse",
        summary="Fetch the answer to a message",
        description="Answers at once. With `wait`, answers as soon as there is a result, or after that many seconds. "
        "With `Accept: text/event-stream`, answers as a stream. After a 202, poll again after `Retry-After`.",
        role="read_only",
        query=ResponseQuery,
        headers=(_CALLERS_ID, _LAST_SEEN),
        answers={
            200: Answer("The message has ended: completed or failed.", ResultAnswer, examples=_RESULTS, events=_EVENTS),
            202: Answer(
                "The message is being processed.",
                ProcessingAnswer,
                (RETRY_AFTER,),
                {"processing": ProcessingAnswer(stage="agent-router").model_dump()},
            ),
            204: Answer("The client has received the `result` of this stream. Do not reconnect."),
            **_errors(*_USUAL, 410),
        },
    )


def _last_activity(settled: Mapping[str, Schema]) -> Operation:
    return Operation(
        method="GET",
        path="/api/v1/message/last-activity",
        name="getLastActivity",
        summary="When did a user last write?",
        description="Known for a limited time (`ttl_seconds`).",
        role="read_only",
        query=ActivityQuery,
        settled=settled,
        headers=(_CALLERS_ID,),
        answers={
            200: Answer("The user's last message.", ActivityAnswer, examples={"found": _ACTIVITY}),
            **_errors(*_USUAL),
        },
        tag="users",
    )


def _task_status() -> Operation:
    return Operation(
        method="GET",
        path="/api/v1/message/debug/task-status",
        name="getTaskStatus",
        summary="Follow a message through the stages",
        description="Each stage and attempt with its times, errors and delays, and those of the callback. Contains no "
        "text and no number of the user.",
        role="admin",
        query=MessageQuery,
        headers=(_CALLERS_ID,),
        answers={200: Answer("What is stored of the message.", TaskReport), **_errors(*_USUAL)},
        tag="operation",
    )


def _errors(*codes: int) -> Mapping[int, Answer]:
    return {code: COMMON_ERRORS[code] for code in codes}


_ACTIVITY = ActivityAnswer(
    user_number="+5521999999999", last_message_timestamp="2026-01-01T10:30:00.123Z", ttl_seconds=86_000
).model_dump()
_JOURNEY = {
    "message_id": _MESSAGE_ID,
    "thread_id": "+5521999999999",
    "processing_time_ms": 1250,
    "message_type": "text",
    "transcript": None,
    "metadata": {},
}


def _turn(text: str, status: str) -> dict[str, object]:
    messages: Sequence[object] = [
        {"id": "message-1", "message_type": "assistant_message", "content": text},
        {"message_type": "usage_statistics", "total_tokens": 120, "status": status},
    ]
    return {"messages": messages, "agent_id": "user_+5521999999999", "processed_at": _MESSAGE_ID, "status": status}


def _example(text: str, turn_status: str, **fields: object) -> dict[str, object]:
    return {**fields, "content": text, "contents": [text], **_JOURNEY, "data": _turn(text, turn_status)}


_RESULTS = {
    "completed": _example("Olá! O posto abre às 8h.", "done", status="completed"),
    "failed": _example(
        "Não consegui entender o áudio.",
        "error",
        status="failed",
        error="Audio transcription failed",
        error_code="TRANSCRIPTION_ERROR",
        retry_after=300,
    ),
}
