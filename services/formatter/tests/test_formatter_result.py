"""The result's shape, key by key: what the poller returns, callbacks deliver and clients' parsers were written for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.messages import AgentReplied, MessageFailed
from eai_common.replies import (
    AssistantMessage,
    ReasoningMessage,
    ReplyMessage,
    ToolCall,
    ToolCallMessage,
    ToolReturnMessage,
    UsageMetadata,
    UsageStatistics,
    UserMessage,
)
from eai_formatter.rendering import Formatted
from eai_formatter.result import completed_result, failed_result
from eai_formatter.texts import FailureText

ID = "018f2b5e-0000-7000-8000-00000000abcd"
USER = "+5521999990000"
ACCEPTED = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
NOW = ACCEPTED + timedelta(seconds=1.25)
JOURNEY: dict[str, Any] = {"message_id": ID, "user_number": USER, "timestamp": ACCEPTED}
TEXT = FailureText(error="The agent took too long", text="Desculpe, tente de novo.")

MESSAGE = {
    "id": "m1",
    "date": None,
    "session_id": None,
    "time_since_last_message": None,
    "name": None,
    "otid": None,
    "sender_id": None,
    "step_id": None,
    "is_err": None,
}
MODEL = {**MESSAGE, "model_name": None, "finish_reason": None, "avg_logprobs": None, "usage_metadata": None}
USAGE_METADATA = {
    "prompt_token_count": None,
    "candidates_token_count": None,
    "total_token_count": None,
    "thoughts_token_count": None,
    "cached_content_token_count": None,
}
USAGE = {
    "message_type": "usage_statistics",
    "completion_tokens": 0,
    "thoughts_tokens": 0,
    "prompt_tokens": 0,
    "total_tokens": 0,
    "step_count": 0,
    "steps_messages": None,
    "run_ids": None,
    "agent_id": None,
    "processed_at": None,
    "status": "done",
    "model_names": [],
}


def shout(markdown: str) -> Formatted:
    """Stands in for the rendering, which has tests of its own."""
    pieces = [piece.upper() for piece in markdown.split("|") if piece]
    return Formatted("".join(pieces), pieces)


def completed(*messages: ReplyMessage, **journey: Any) -> dict[str, Any]:
    event = AgentReplied(**{**JOURNEY, **journey}, messages=list(messages), agent_id=f"user_{USER}")
    return completed_result(event, now=NOW, format_text=shout)


def failed(**fields: Any) -> dict[str, Any]:
    given_fields = {
        "error_code": "AGENT_TIMEOUT",
        "error": "for the operator",
        "failed_stage": "agent-router",
        **fields,
    }
    return failed_result(MessageFailed(**{**JOURNEY, **given_fields}), TEXT, now=NOW)


def shown(message: ReplyMessage) -> Any:
    """How one message of the agent is shown in `data.messages`."""
    return completed(message)["data"]["messages"][0]


# A completed message


def test_a_message_that_was_answered_with_a_later_one_names_it_and_says_nothing() -> None:
    later = "01890a5d-ac96-774b-bcce-b302099a8058"
    event = AgentReplied(**JOURNEY, messages=[UsageStatistics()], agent_id="a", merged_into=later)
    result = completed_result(event, now=NOW, format_text=shout)
    assert (result["status"], result["merged_into"], result["content"], result["contents"]) == (
        "completed",
        later,
        "",
        [],
    )


def test_a_completed_result_has_exactly_these_fields() -> None:
    assert completed(AssistantMessage(id="m1", content="olá! "), UsageStatistics()) == {
        "status": "completed",
        "content": "OLÁ! ",
        "contents": ["OLÁ! "],
        "message_id": ID,
        "thread_id": USER,
        "processing_time_ms": 1250,
        "message_type": "text",
        "transcript": None,
        "metadata": {},
        "data": {
            "messages": [{**MODEL, "message_type": "assistant_message", "content": "OLÁ! "}, USAGE],
            "agent_id": f"user_{USER}",
            "processed_at": ID,
            "status": "done",
        },
    }


SHAPES: dict[str, tuple[ReplyMessage, dict[str, Any]]] = {
    "user": (
        UserMessage(id="m1", content="oi"),
        {**MESSAGE, "message_type": "user_message", "content": "oi"},
    ),
    "reasoning": (
        ReasoningMessage(id="m1", reasoning="hm"),
        {**MODEL, "message_type": "reasoning_message", "source": None, "reasoning": "hm", "signature": None},
    ),
    "tool call": (
        ToolCallMessage(id="m1", tool_call=ToolCall(name="search", arguments={"q": "x"}, tool_call_id="t1")),
        {
            **MODEL,
            "message_type": "tool_call_message",
            "tool_call": {"name": "search", "arguments": {"q": "x"}, "tool_call_id": "t1"},
        },
    ),
    "tool call, nothing else known": (
        ToolCallMessage(id="m1", tool_call=ToolCall(name="search")),
        {
            **MODEL,
            "message_type": "tool_call_message",
            "tool_call": {"name": "search", "arguments": None, "tool_call_id": None},
        },
    ),
    "tool return": (
        ToolReturnMessage(id="m1", tool_return="found", status="success", tool_call_id="t1"),
        {
            **MESSAGE,
            "message_type": "tool_return_message",
            "tool_return": "found",
            "status": "success",
            "tool_call_id": "t1",
            "stdout": None,
            "stderr": None,
        },
    ),
    "assistant with usage": (
        AssistantMessage(id="m1", content="x", usage_metadata=UsageMetadata(prompt_token_count=7)),
        {
            **MODEL,
            "message_type": "assistant_message",
            "content": "X",
            "usage_metadata": {**USAGE_METADATA, "prompt_token_count": 7},
        },
    ),
    "usage": (
        UsageStatistics(completion_tokens=5, thoughts_tokens=2, model_names=["gemini"], agent_id="a"),
        {**USAGE, "completion_tokens": 5, "thoughts_tokens": 2, "model_names": ["gemini"], "agent_id": "a"},
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_message_of_the_agent_has_exactly_these_fields_unknown_ones_null(kind: str) -> None:
    message, shape = SHAPES[kind]
    assert shown(message) == shape


def test_only_what_the_agent_says_to_the_user_is_formatted() -> None:
    messages: list[ReplyMessage] = [
        UserMessage(id="1", content="a"),
        ReasoningMessage(id="2", reasoning="b"),
        ToolReturnMessage(id="3", tool_return="c"),
        AssistantMessage(id="4", content="d"),
    ]
    shown_messages = completed(*messages)["data"]["messages"]
    told = [
        message.get("content") or message.get("reasoning") or message.get("tool_return") for message in shown_messages
    ]
    assert told == ["a", "b", "c", "D"]


def test_the_last_thing_that_the_agent_said_is_the_answer() -> None:
    result = completed(AssistantMessage(id="1", content="first"), AssistantMessage(id="2", content="se|cond"))
    assert (result["content"], result["contents"]) == ("SECOND", ["SE", "COND"])


def test_clients_find_the_whole_answer_in_the_last_assistant_message() -> None:
    result = completed(AssistantMessage(id="1", content="se|cond"), UsageStatistics())
    said = [one for one in result["data"]["messages"] if one["message_type"] == "assistant_message"]
    assert said[-1]["content"] == result["content"]


def test_an_agent_that_said_nothing_gives_an_empty_answer() -> None:
    result = completed(UsageStatistics())
    assert (result["status"], result["content"], result["contents"]) == ("completed", "", [])


def test_a_voice_message_keeps_its_type_and_its_transcript() -> None:
    result = completed(message_type="audio", transcript="quero um passaporte")
    assert (result["message_type"], result["transcript"]) == ("audio", "quero um passaporte")


def test_metadata_is_handed_through() -> None:
    assert completed(metadata={"ticket": [1, {"a": None}]})["metadata"] == {"ticket": [1, {"a": None}]}


@given(st.timedeltas(timedelta(days=-1), timedelta(days=30)))
def test_the_time_taken_is_never_negative_though_clocks_differ(took: timedelta) -> None:
    event = AgentReplied(**JOURNEY, messages=[], agent_id="a")
    result = completed_result(event, now=ACCEPTED + took, format_text=shout)
    assert result["processing_time_ms"] == max(0, took // timedelta(milliseconds=1))


# A failed message


def test_a_failed_result_has_exactly_these_fields() -> None:
    assert failed() == {
        "status": "failed",
        "error": "The agent took too long",
        "error_code": "AGENT_TIMEOUT",
        "content": "Desculpe, tente de novo.",
        "contents": ["Desculpe, tente de novo."],
        "message_id": ID,
        "thread_id": USER,
        "processing_time_ms": 1250,
        "message_type": "text",
        "transcript": None,
        "metadata": {},
        "data": {
            "messages": [
                {
                    **MODEL,
                    "id": f"message-{ID}",
                    "date": "2026-01-01T10:30:01.250Z",
                    "is_err": True,
                    "message_type": "assistant_message",
                    "content": "Desculpe, tente de novo.",
                },
                {
                    **USAGE,
                    "agent_id": f"user_{USER}",
                    "processed_at": "2026-01-01T10:30:01.250Z",
                    "status": "error",
                },
            ],
            "agent_id": f"user_{USER}",
            "processed_at": ID,
            "status": "error",
        },
    }


@pytest.mark.parametrize("retry_after_s", [0, 300])
def test_when_to_try_again_is_told_when_that_can_help(retry_after_s: int) -> None:
    assert failed(retry_after_s=retry_after_s)["retry_after"] == retry_after_s


def test_when_trying_again_cannot_help_nothing_is_said_about_it() -> None:
    assert "retry_after" not in failed(retry_after_s=None)


def test_the_operators_words_reach_no_client() -> None:
    assert b"for the operator" not in orjson.dumps(failed())
