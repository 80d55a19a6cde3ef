"""What engines put out, in every shape that was seen, and what clients get of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from eai_agent_router.errors import AgentBadResponse, AgentRefused
from eai_agent_router.langchain import read_replies
from eai_agent_router.shapes import TurnStamp
from eai_common.replies import (
    AssistantMessage,
    ReasoningMessage,
    ReplyMessage,
    ToolCallMessage,
    ToolReturnMessage,
    UsageStatistics,
    UserMessage,
)

STAMP = TurnStamp("id-1", "user_+5521999999999", datetime(2026, 1, 1, 10, 30, tzinfo=UTC))
HUMAN: JsonValue = {"type": "human", "content": "Oi", "id": "h1"}
GEMINI_USAGE: JsonValue = {
    "prompt_token_count": 100,
    "candidates_token_count": 20,
    "thoughts_token_count": 5,
    "total_token_count": 125,
    "cached_content_token_count": 7,
}


def ai(content: JsonValue = "Olá!", **fields: JsonValue) -> JsonValue:
    return {"type": "ai", "content": content, "id": "a1", **fields}


def replies(*messages: JsonValue) -> tuple[ReplyMessage, ...]:
    return read_replies({"messages": list(messages)}, STAMP)


def kinds(*messages: JsonValue) -> list[str]:
    return [reply.message_type for reply in replies(*messages)]


def statistics(*messages: JsonValue) -> UsageStatistics:
    closing = replies(*messages)[-1]
    assert isinstance(closing, UsageStatistics)
    return closing


def last_text(output: JsonValue) -> str:
    return [reply for reply in read_replies(output, STAMP) if isinstance(reply, AssistantMessage)][-1].content


@pytest.mark.parametrize(
    "output",
    [
        {"messages": [HUMAN, ai()]},
        {"messages": [ai()]},
        [HUMAN, ai()],
        "Olá!",
        "\ufeffOlá!",
        json.dumps({"messages": [HUMAN, ai()]}),
        "\ufeff" + json.dumps({"messages": [ai()]}),
        {"messages": [HUMAN, ai([{"type": "text", "text": "Olá!"}])]},
        {"messages": [HUMAN, ai(["Olá", "!"])]},
        {"messages": [HUMAN, ai([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Olá!"}])]},
        {"messages": [HUMAN, ai([{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Olá!"}])]},
        {"messages": [HUMAN, ai(tool_calls=None, usage_metadata=None, response_metadata=None, additional_kwargs=None)]},
        {"messages": [HUMAN, {"type": "AIMessageChunk", "content": "Olá!"}]},
        {"messages": [{"type": "system", "content": "be kind"}, HUMAN, ai()]},
        {"messages": [{"lc": 1, "type": "constructor", "id": ["x", "AIMessage"], "kwargs": ai()}]},
        {"messages": [HUMAN, ai()], "status": "ok", "something": "new"},
    ],
    ids=lambda output: str(output)[:50],
)
def test_every_known_shape_of_an_answer_is_understood(output: JsonValue) -> None:
    assert last_text(output) == "Olá!"


@pytest.mark.parametrize(
    "output",
    [
        None,
        True,
        42,
        {},
        [],
        {"messages": []},
        {"messages": {}},
        {"messages": "Olá!"},
        {"messages": ["Olá!"]},
        {"messages": [{"content": "Olá!"}]},
        {"messages": [{"type": "robot", "content": "Olá!"}]},
        {"messages": [ai({"text": "Olá!"})]},
        {"messages": [ai([1])]},
        {"messages": [ai(tool_calls=[{}])]},
        {"messages": [{"lc": 1}]},
        {"messages": [HUMAN]},
        {"messages": [HUMAN, ai("")]},
        {"messages": [HUMAN, ai("  \n")]},
        {"messages": [HUMAN, ai(tool_calls=[{"name": "search", "args": {}, "id": "c"}], content=None)]},
        {"messages": [ai(), HUMAN]},
        {"unexpected": [1, 2, 3]},
        {"status_code": 500, "status": "error"},
        "",
    ],
    ids=str,
)
def test_a_shape_never_seen_or_without_words_is_a_bad_response(output: JsonValue) -> None:
    with pytest.raises(AgentBadResponse):
        read_replies(output, STAMP)


def test_a_bad_response_keeps_the_answer_for_the_dead_letter_and_out_of_its_text() -> None:
    with pytest.raises(AgentBadResponse) as caught:
        replies(ai({"secret": "words"}))
    assert caught.value.evidence == {"messages": [ai({"secret": "words"})]}
    assert "words" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [{"finish_reason": reason} for reason in ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "content_filter")]
    + [{"is_blocked": True}],
    ids=str,
)
def test_an_answer_that_a_safety_filter_took_is_refused(metadata: JsonValue) -> None:
    with pytest.raises(AgentRefused):
        replies(HUMAN, ai("", response_metadata=metadata))


def test_words_that_came_before_the_filter_still_reach_the_user() -> None:
    assert last_text({"messages": [HUMAN, ai(response_metadata={"finish_reason": "SAFETY"})]}) == "Olá!"


def test_only_this_turn_is_shown_of_a_whole_thread() -> None:
    earlier: JsonValue = {"type": "human", "content": "antes", "id": "h0"}
    shown = replies(earlier, ai("resposta de antes"), ai("Quer mais?"), HUMAN, ai())
    assert [reply.content for reply in shown if isinstance(reply, UserMessage | AssistantMessage)] == ["Oi", "Olá!"]


def test_thoughts_words_and_tools_come_in_the_order_in_which_they_came_about() -> None:
    call: JsonValue = {"name": "search", "args": {"q": "IPTU"}, "id": "c1", "type": "tool_call"}
    content: JsonValue = [
        {"type": "thinking", "thinking": "vou procurar", "signature": "sig"},
        {"type": "text", "text": "Um momento."},
    ]
    tool: JsonValue = {"type": "tool", "content": "achei", "tool_call_id": "c1", "name": "search", "id": "t1"}
    assert kinds(HUMAN, ai(content, tool_calls=[call]), tool, ai()) == [
        "user_message",
        "reasoning_message",
        "assistant_message",
        "tool_call_message",
        "tool_return_message",
        "assistant_message",
        "usage_statistics",
    ]


def test_a_tool_call_keeps_its_arguments_and_its_return_the_id() -> None:
    call: JsonValue = {"name": "search", "args": {"q": ["a", 1, None]}, "id": "c1"}
    tool: JsonValue = {
        "type": "tool",
        "content": [{"type": "text", "text": "nada"}],
        "tool_call_id": "c1",
        "status": "error",
    }
    _, called, returned, *_ = replies(HUMAN, ai("", tool_calls=[call]), tool, ai())
    assert isinstance(called, ToolCallMessage)
    assert (called.tool_call.arguments, called.tool_call.tool_call_id) == ({"q": ["a", 1, None]}, "c1")
    assert isinstance(returned, ToolReturnMessage)
    assert (returned.tool_return, returned.status, returned.is_err, returned.tool_call_id) == (
        "nada",
        "error",
        True,
        "c1",
    )


def test_a_thought_keeps_its_signature() -> None:
    _, thought, *_ = replies(HUMAN, ai([{"type": "thinking", "thinking": "hm", "signature": "s"}, "Olá!"]))
    assert isinstance(thought, ReasoningMessage)
    assert (thought.source, thought.reasoning, thought.signature) == ("reasoner_model", "hm", "s")


def test_a_message_without_an_id_gets_one_from_the_gateways_own() -> None:
    assert [reply.id for reply in replies({"type": "ai", "content": "Olá!"})[:-1]] == ["id-1:0"]  # type: ignore[union-attr]


def test_the_engines_time_of_a_message_is_its_date() -> None:
    stamped = ai(additional_kwargs={"timestamp": "2026-01-01T10:29:59+00:00"})
    reply, _ = replies(stamped)
    assert isinstance(reply, AssistantMessage)
    assert reply.date == "2026-01-01T10:29:59+00:00"


def test_what_the_provider_does_not_give_is_null() -> None:
    reply, _ = replies(ai())
    assert reply.model_dump(mode="json") == {
        **dict.fromkeys(
            "date session_id time_since_last_message name otid sender_id step_id is_err model_name "
            "finish_reason avg_logprobs usage_metadata".split()
        ),
        "id": "a1",
        "message_type": "assistant_message",
        "content": "Olá!",
    }


def test_usage_is_summed_over_the_steps_and_each_step_counts_once() -> None:
    step: JsonValue = {"usage_metadata": GEMINI_USAGE, "model_name": "gemini-2.5-flash", "finish_reason": "STOP"}
    call: JsonValue = {"name": "search", "args": {}, "id": "c1"}
    thinking: JsonValue = [{"type": "thinking", "thinking": "hm"}, "Um momento."]
    tool: JsonValue = {"type": "tool", "content": "achei", "tool_call_id": "c1"}
    closing = statistics(
        HUMAN, ai(thinking, tool_calls=[call], response_metadata=step), tool, ai(response_metadata=step)
    )
    assert closing.model_dump(exclude_none=True) == {
        "message_type": "usage_statistics",
        "prompt_tokens": 200,
        "completion_tokens": 50,
        "thoughts_tokens": 10,
        "total_tokens": 250,
        "step_count": 2,
        "agent_id": "user_+5521999999999",
        "processed_at": "2026-01-01T10:30:00.000Z",
        "status": "done",
        "model_names": ["gemini-2.5-flash"],
    }


@pytest.mark.parametrize(
    "usage",
    [
        {
            "input_tokens": 100,
            "output_tokens": 25,
            "total_tokens": 125,
            "output_token_details": {"reasoning": 5},
            "input_token_details": {"cache_read": 7},
        },
        {
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 125,
            "output_token_details": {"reasoning": 5},
            "input_token_details": {"cache_read": 7},
        },
        {
            "input_tokens": 100.0,
            "output_tokens": 25.0,
            "total_tokens": 125.0,
            "output_token_details": {"reasoning": 5.0},
        },
    ],
    ids=["thoughts within the output", "thoughts beside the output", "doubles"],
)
def test_langchains_own_count_of_tokens_gives_the_same_sums(usage: JsonValue) -> None:
    closing = statistics(HUMAN, ai(usage_metadata=usage))
    counts = (closing.prompt_tokens, closing.completion_tokens, closing.thoughts_tokens, closing.total_tokens)
    assert counts == (100, 25, 5, 125)


def test_the_models_own_count_wins_over_langchains() -> None:
    langchain: JsonValue = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    closing = statistics(ai(response_metadata={"usage_metadata": GEMINI_USAGE}, usage_metadata=langchain))
    assert closing.total_tokens == 125


# Laws

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
counts = st.none() | st.integers(0, 10**6)
usages = st.none() | st.fixed_dictionaries({"prompt_token_count": st.integers(0, 9), "candidates_token_count": counts})
texts = st.text(max_size=30)
parts = st.lists(
    texts
    | st.fixed_dictionaries({"type": st.just("text"), "text": texts})
    | st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts}),
    max_size=4,
)
tool_calls = st.lists(st.fixed_dictionaries({"name": texts, "args": json_values, "id": texts}), max_size=2)
messages = st.one_of(
    st.fixed_dictionaries({"type": st.just("human"), "content": texts}),
    st.fixed_dictionaries({"type": st.just("tool"), "content": texts | parts, "tool_call_id": texts}),
    st.fixed_dictionaries(
        {
            "type": st.just("ai"),
            "content": texts | parts,
            "tool_calls": st.lists(
                st.fixed_dictionaries({"name": texts, "args": json_values, "id": texts}), max_size=2
            ),
            "response_metadata": st.fixed_dictionaries({"usage_metadata": usages}),
        }
    ),
)


@given(json_values | st.fixed_dictionaries({"messages": json_values}) | st.lists(messages | json_values, max_size=4))
def test_any_json_at_all_is_an_answer_or_a_typed_error(output: JsonValue) -> None:
    try:
        answer = read_replies(output, STAMP)
    except (AgentBadResponse, AgentRefused):
        return
    assert isinstance(answer[-1], UsageStatistics)


@given(st.lists(messages, max_size=6))
def test_an_answer_ends_with_its_only_statistics_and_says_something(thread: list[JsonValue]) -> None:
    answer = read_replies({"messages": [*thread, ai("fim")]}, STAMP)
    assert [isinstance(reply, UsageStatistics) for reply in answer] == [False] * (len(answer) - 1) + [True]
    assert last_text({"messages": [*thread, ai("fim")]}) == "fim"


@given(st.lists(messages, max_size=6), st.lists(messages, max_size=6))
def test_earlier_turns_change_nothing(earlier: list[JsonValue], rest: list[dict[str, JsonValue]]) -> None:
    made = [{**message, "id": f"m{number}"} for number, message in enumerate(rest) if message["type"] != "human"]
    turn: list[JsonValue] = [HUMAN, *made, ai()]
    assert read_replies([*earlier, *turn], STAMP) == read_replies(turn, STAMP)


@given(texts.filter(str.strip))
def test_plain_words_come_through_unchanged(text: str) -> None:
    assert last_text({"messages": [ai(text)]}) == text
