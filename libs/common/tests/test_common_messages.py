"""Events and their bodies: what is written is read again, what is foreign is read kindly, what is broken is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eai_common.errors import Permanent
from eai_common.messages import (
    EVENTS,
    AgentReplied,
    Event,
    HistoryMessage,
    HistoryUpdate,
    HistoryUpdated,
    InvalidMessage,
    MessageAudio,
    MessageFailed,
    MessageText,
    MessageTranscribed,
    TaskCompleted,
    TranscriptionFailed,
    decode,
    encode,
    rfc3339,
    salvage,
)
from eai_common.replies import (
    AssistantMessage,
    ReasoningMessage,
    ToolCall,
    ToolCallMessage,
    ToolReturnMessage,
    UsageMetadata,
    UsageStatistics,
    UserMessage,
)

ID = "018f2b5e-0000-7000-8000-00000000abcd"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BODY: dict[str, Any] = {
    "schema": 1,
    "message_id": ID,
    "user_number": "+5521999990000",
    "message": "Oi",
    "message_type": "text",
    "timestamp": "2026-01-01T12:00:00.123Z",
}
PREDECESSOR: dict[str, Any] = {
    "id": ID,
    "type": "user_message",
    "user_number": "+5521999990000",
    "message": "Oi",
    "timestamp": "2026-01-01T12:00:00Z",
}

TEXT = st.text(max_size=50)
MAYBE_TEXT = st.none() | TEXT
# What JSON gives back as it was: no NaN, no integer beyond 64 bits.
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
JSON_OBJECTS = st.dictionaries(TEXT, JSON, max_size=4)
JOURNEY: dict[str, st.SearchStrategy[Any]] = {
    "message_id": st.uuids().map(str),
    "user_number": st.text(min_size=1, max_size=64),
    "message_type": st.sampled_from(["text", "audio"]),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "previous_message": MAYBE_TEXT,
    "metadata": JSON_OBJECTS,
    "provider": MAYBE_TEXT,
    "reasoning_engine_id": MAYBE_TEXT,
    "callback_url": MAYBE_TEXT,
    "channel": TEXT,
    "trace_headers": st.dictionaries(TEXT, TEXT, max_size=2),
    "transcript": MAYBE_TEXT,
    **dict.fromkeys(["replay", "outcome_number", "outcome_after"], st.integers(0, 2**53)),
}
FAILURE: dict[str, st.SearchStrategy[Any]] = {
    "error_code": TEXT,
    "error": TEXT,
    "failed_stage": TEXT,
    "retry_after_s": st.none() | INTEGERS,
}
MODEL: dict[str, st.SearchStrategy[Any]] = {
    "id": TEXT,
    "model_name": MAYBE_TEXT,
    "avg_logprobs": st.none() | FLOATS,
    "usage_metadata": st.none() | st.builds(UsageMetadata, prompt_token_count=st.none() | INTEGERS),
}
REPLIES = st.one_of(
    st.builds(UserMessage, id=TEXT, content=TEXT),
    st.builds(AssistantMessage, content=TEXT, **MODEL),
    st.builds(ReasoningMessage, reasoning=TEXT, signature=MAYBE_TEXT, **MODEL),
    st.builds(ToolCallMessage, tool_call=st.builds(ToolCall, name=TEXT, arguments=JSON), **MODEL),
    st.builds(ToolReturnMessage, id=TEXT, tool_return=JSON, stdout=st.none() | st.lists(TEXT, max_size=2)),
    st.builds(UsageStatistics, total_tokens=INTEGERS, model_names=st.lists(TEXT, max_size=2)),
)
OWN: dict[type[Event], dict[str, st.SearchStrategy[Any]]] = {
    MessageText: {"message": TEXT},
    MessageAudio: {"message": TEXT},
    MessageTranscribed: {"transcript": TEXT, "confidence": st.none() | FLOATS},
    HistoryUpdate: {
        "messages": st.lists(st.builds(HistoryMessage, content=TEXT, role=st.sampled_from(["human", "ai"])), max_size=3)
    },
    HistoryUpdated: {"answer": JSON_OBJECTS},
    AgentReplied: {"messages": st.lists(REPLIES, max_size=4), "agent_id": TEXT},
    MessageFailed: FAILURE,
    TranscriptionFailed: FAILURE,
    TaskCompleted: {"status": st.sampled_from(["completed", "failed"]), "result": JSON_OBJECTS},
}
ANY_EVENT = st.one_of([st.builds(kind, **{**JOURNEY, **own}) for kind, own in OWN.items()])


def text_of(body: dict[str, Any], *, fallback_time: datetime | None = None) -> MessageText:
    return decode(orjson.dumps(body), event_name="message.text", accepts=[MessageText], fallback_time=fallback_time)


# Laws


def test_every_event_has_a_law() -> None:
    assert set(OWN) == set(EVENTS.values())


@given(ANY_EVENT)
def test_what_is_written_is_read_again(event: Event) -> None:
    read = decode(encode(event), event_name=event.name, accepts=[type(event)], fallback_time=None)
    assert read == event


@given(ANY_EVENT)
def test_a_body_is_json_that_tells_its_schema_and_leaves_no_field_out(event: Event) -> None:
    fields = orjson.loads(encode(event))
    assert fields["schema"] == 1
    assert set(fields) == {name if name != "schema_version" else "schema" for name in type(event).model_fields}


@given(ANY_EVENT, st.sampled_from(sorted(EVENTS)))
def test_the_next_event_takes_the_journey_over(event: Event, then: str) -> None:
    following = MessageFailed.after(event, error_code="X", error="x", failed_stage=then)
    journey = set(Event.model_fields)
    assert following.model_dump(include=journey) == event.model_dump(include=journey)


BROKEN = (
    st.binary(max_size=200) | JSON.map(orjson.dumps) | JSON_OBJECTS.map(lambda some: orjson.dumps({**BODY, **some}))
)
WRONG_FIELD = st.builds(
    lambda name, value, base: orjson.dumps({**base, name: value}),
    st.sampled_from([*BODY, *PREDECESSOR, "metadata", "trace_headers", "previous_message", "transcript"]),
    JSON,
    st.sampled_from([BODY, PREDECESSOR]),
)


@given(BROKEN | WRONG_FIELD, st.sampled_from(list(EVENTS.values())))
@example(orjson.dumps({**BODY, "timestamp": "0001-01-01T00:00:00+10:00"}), MessageText)
@example(orjson.dumps({**BODY, "timestamp": 1e308}), MessageText)
@example(b'{"schema":1,"metadata":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", MessageText)
@example(b"[" * 100_000, MessageText)
def test_no_body_raises_anything_but_invalid_message(body: bytes, kind: type[Event]) -> None:
    salvage(body)
    try:
        event = decode(body, event_name=kind.name, accepts=[kind], fallback_time=NOON)
    except InvalidMessage:
        return
    assert decode(encode(event), event_name=kind.name, accepts=[kind], fallback_time=None) == event


def test_an_invalid_message_is_never_tried_again() -> None:
    assert issubclass(InvalidMessage, Permanent)


# Reading


def test_a_field_of_a_later_version_is_ignored() -> None:
    assert text_of({**BODY, "mood": "good", "trace_headers": {}}) == text_of(BODY)


def test_a_message_without_a_channel_came_over_whatsapp() -> None:
    assert text_of(BODY).channel == "whatsapp"


@pytest.mark.parametrize("schema", [2, 0, "1", None, "x"])
def test_a_schema_that_is_not_known_is_refused(schema: object) -> None:
    with pytest.raises(InvalidMessage, match="schema"):
        text_of({**BODY, "schema": schema})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"{}", "no schema, and not a message of the previous gateway"),
        (orjson.dumps({**BODY, "message_id": "12"}), "message_id"),
        (orjson.dumps({**BODY, "user_number": ""}), "user_number"),
        (orjson.dumps({**BODY, "user_number": "5" * 65}), "user_number"),
        (orjson.dumps({**BODY, "message_type": "video"}), "message_type"),
        (orjson.dumps({**BODY, "timestamp": "yesterday"}), "timestamp"),
        (orjson.dumps({**BODY, "metadata": [1]}), "metadata"),
        (orjson.dumps({key: value for key, value in BODY.items() if key != "message"}), "message"),
        (orjson.dumps({**PREDECESSOR, "type": "other"}), "type"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_the_place(body: bytes, where: str) -> None:
    with pytest.raises(InvalidMessage, match=where):
        decode(body, event_name="message.text", accepts=[MessageText], fallback_time=None)


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "message": {"secret": "hunter2"}},
        {**BODY, "timestamp": "hunter2"},
        {**BODY, "message_id": "hunter2"},
        {"id": ["hunter2"], "type": "hunter2"},
    ],
)
def test_why_a_body_was_refused_is_told_without_its_content(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage) as refused:
        text_of(body)
    assert "hunter2" not in str(refused.value)


def test_metadata_nested_deeper_than_a_result_can_hold_is_refused_in_few_words() -> None:
    deep = b'{"schema":1,"metadata":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}"
    with pytest.raises(InvalidMessage, match="metadata") as refused:
        decode(deep, event_name="message.text", accepts=[MessageText], fallback_time=NOON)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("name", "accepts", "chosen"),
    [
        ("message.transcribed", (MessageText, MessageTranscribed), MessageTranscribed),
        ("message.text", (MessageText, MessageTranscribed), MessageText),
        ("eai.user_messages", (MessageText, MessageTranscribed), MessageText),
        (None, (MessageText, MessageTranscribed), MessageText),
    ],
    ids=["named", "first", "foreign name", "no name"],
)
def test_the_name_says_which_event_it_is_and_the_first_is_taken_else(
    name: str | None, accepts: Sequence[type[Event]], chosen: type[Event]
) -> None:
    body = orjson.dumps({**BODY, "transcript": "Oi"})
    assert type(decode(body, event_name=name, accepts=accepts, fallback_time=None)) is chosen


@pytest.mark.parametrize("form", [ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_a_message_id_is_kept_in_its_canonical_form(form: str) -> None:
    assert text_of({**BODY, "message_id": form}).message_id == ID


# Times


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T12:00:00Z",
        "2026-01-01T09:00:00-03:00",
        "2026-01-01T12:00:00",
        "2026-01-01 12:00:00.000000",
        1767268800,
        1767268800000,
    ],
    ids=str,
)
def test_a_time_is_kept_in_utc_however_it_was_written(written: object) -> None:
    timestamp = text_of({**BODY, "timestamp": written}).timestamp
    assert (timestamp, timestamp.tzinfo) == (NOON, UTC)


def test_the_brokers_time_stands_in_for_one_that_is_missing() -> None:
    body = {key: value for key, value in BODY.items() if key != "timestamp"}
    assert text_of(body, fallback_time=NOON).timestamp == NOON


def test_the_brokers_time_does_not_overwrite_the_messages_own() -> None:
    assert text_of(BODY, fallback_time=NOON + timedelta(hours=1)).timestamp == NOON + timedelta(milliseconds=123)


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 1, 10, 30, 0, 123999, tzinfo=UTC), "2026-01-01T10:30:00.123Z"),
        (datetime(2026, 1, 1, 10, 30, tzinfo=UTC), "2026-01-01T10:30:00.000Z"),
        (datetime(2026, 1, 1, 10, 30, tzinfo=timezone(timedelta(hours=-3))), "2026-01-01T13:30:00.000Z"),
    ],
    ids=["milliseconds", "whole", "another zone"],
)
def test_a_time_is_written_in_utc_with_milliseconds(moment: datetime, written: str) -> None:
    assert rfc3339(moment) == written


# The predecessor


def test_the_predecessors_message_is_read() -> None:
    event = text_of(PREDECESSOR)
    told = event.message_id, event.user_number, event.message, event.timestamp, event.schema_version
    assert told == (ID, "+5521999990000", "Oi", NOON, 1)


def test_a_null_in_the_predecessors_message_means_absent() -> None:
    optional = {"previous_message": None, "metadata": None, "trace_headers": None, "message_type": None}
    assert text_of({**PREDECESSOR, **optional}) == text_of(PREDECESSOR)


def test_the_predecessors_message_may_have_no_time() -> None:
    body = {key: value for key, value in PREDECESSOR.items() if key != "timestamp"}
    assert text_of(body, fallback_time=NOON).timestamp == NOON


# Salvage


def test_of_a_body_of_a_later_schema_its_message_can_still_be_told() -> None:
    event = salvage(orjson.dumps({**BODY, "schema": 2, "message": ["a", "b"], "metadata": {"k": 1}}))
    assert event is not None
    assert (event.message_id, event.user_number, event.metadata) == (ID, "+5521999990000", {"k": 1})


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", orjson.dumps({**BODY, "message_id": 7}), b"\x00" * 10], ids=repr)
def test_of_a_body_without_an_identity_nothing_can_be_told(body: bytes) -> None:
    assert salvage(body) is None
