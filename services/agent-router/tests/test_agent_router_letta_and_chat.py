"""Letta's and OpenAI's answers in the shapes that were seen, and the part of a conversation that a model is given."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from eai_agent_router.agent import Answer, Turn
from eai_agent_router.eai_service import EaiAgents, LettaAgent, NewAgent
from eai_agent_router.errors import AgentBadResponse, AgentConnectionLost, AgentRefused
from eai_agent_router.failures import OPENAI
from eai_agent_router.json_api import JsonApi, StaticToken
from eai_agent_router.letta import read_letta_replies
from eai_agent_router.openai_chat import ChatOptions, OpenAiChat, cut_to_latest
from eai_agent_router.shapes import TurnStamp
from eai_agent_router.testing import a_turn, deadline_in
from eai_agent_router.threads import AgentIdCache
from eai_common.clock import SystemClock
from eai_common.messages import HistoryMessage
from eai_common.replies import AssistantMessage, ToolCallMessage, UsageStatistics
from eai_common.store import open_memory_redis

STAMP = TurnStamp("id-1", "agent-1", datetime(2026, 1, 1, 10, 30, tzinfo=UTC))
SAYS: JsonValue = {
    "message_type": "assistant_message",
    "id": "m1",
    "date": "2026-01-01T10:30:00+00:00",
    "content": "Olá!",
}
USAGE: JsonValue = {"completion_tokens": 5, "prompt_tokens": 9, "total_tokens": 14, "step_count": 2, "run_ids": ["r"]}


def letta(*messages: JsonValue, **fields: JsonValue) -> tuple[object, ...]:
    return read_letta_replies({"messages": list(messages), **fields}, STAMP)


def test_lettas_messages_keep_their_shape_and_close_with_the_usage() -> None:
    reply, closing = letta(SAYS, usage=USAGE)
    assert isinstance(reply, AssistantMessage)
    assert (reply.id, reply.date, reply.content) == ("m1", "2026-01-01T10:30:00+00:00", "Olá!")
    assert isinstance(closing, UsageStatistics)
    assert (closing.total_tokens, closing.step_count, closing.run_ids, closing.agent_id) == (14, 2, ["r"], "agent-1")


@pytest.mark.parametrize("usage", [None, {}, USAGE], ids=str)
def test_lettas_usage_may_be_missing(usage: JsonValue) -> None:
    assert isinstance(letta(SAYS, usage=usage)[-1], UsageStatistics)


@pytest.mark.parametrize(
    "kind", ["system_message", "hidden_reasoning_message", "approval_request_message", "new_message"]
)
def test_kinds_that_clients_do_not_know_are_left_out(kind: str) -> None:
    assert len(letta({"message_type": kind, "anything": 1}, SAYS)) == 2


def test_several_tool_calls_of_one_message_are_shown_one_by_one() -> None:
    calls: JsonValue = [{"name": "a", "arguments": "{}", "tool_call_id": "1"}, {"name": "b", "arguments": "{}"}]
    message: JsonValue = {"message_type": "tool_call_message", "id": "m", "tool_calls": calls}
    shown = [reply for reply in letta(message, SAYS) if isinstance(reply, ToolCallMessage)]
    assert [reply.tool_call.name for reply in shown] == ["a", "b"]


def test_content_in_parts_is_joined() -> None:
    reply, _ = letta({**SAYS, "content": [{"type": "text", "text": "Olá"}, {"type": "text", "text": "!"}]})  # type: ignore[dict-item]
    assert isinstance(reply, AssistantMessage)
    assert reply.content == "Olá\n!"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"messages": None},
        {"messages": ["Olá!"]},
        {"messages": [{"content": "Olá!"}]},
        {"messages": []},
        {"messages": [{"message_type": "assistant_message", "content": " "}]},
        {"messages": [{"message_type": "assistant_message", "content": 7}]},
        {"messages": [{"message_type": "assistant_message"}]},
        {"messages": [SAYS], "usage": {"total_tokens": "many"}},
    ],
    ids=str,
)
def test_an_answer_of_lettas_that_is_none_is_a_bad_response(answer: JsonValue) -> None:
    with pytest.raises(AgentBadResponse):
        read_letta_replies(answer, STAMP)


# OpenAI


class Turns:
    """Conversations in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[HistoryMessage, ...]] = {}

    async def read(self, thread_id: str, *, without: str) -> tuple[HistoryMessage, ...]:
        return tuple(one for turn, said in self.kept.items() if turn != without for one in said)

    async def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> None:
        self.kept[message_id] = messages


def completion(message: JsonValue, **fields: JsonValue) -> JsonValue:
    return {"id": "c1", "model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}], **fields}


async def chatted(answer: JsonValue, turns: Turns | None = None, turn: Turn | None = None) -> tuple[Answer, bytes]:
    """The answer of a chat whose server says this, and the request that it got."""
    bodies: list[bytes] = []

    def serve(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, json=answer)

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve)) as client:
        api = JsonApi(OPENAI, client, "https://chat.example.org/v1", StaticToken(), SystemClock())
        chat = OpenAiChat(api, turns or Turns(), ChatOptions("m-1", system_prompt="Seja breve."), SystemClock())
        given = await chat.ask(turn or Turn("id", "+5521999999999", "Oi"), deadline=deadline_in(5))
    return given, bodies[0]


async def test_the_models_words_and_what_they_cost_are_the_answer() -> None:
    usage: JsonValue = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    answer, _ = await chatted(completion({"content": "Olá!"}, usage=usage))
    reply, closing = answer.messages
    assert isinstance(reply, AssistantMessage)
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata.candidates_token_count, reply.usage_metadata.thoughts_token_count) == (4, 3)
    assert isinstance(closing, UsageStatistics)
    assert (closing.completion_tokens, closing.thoughts_tokens, closing.total_tokens) == (7, 3, 17)


@pytest.mark.parametrize(
    "answer",
    [
        completion({"content": None, "refusal": "I cannot"}),
        {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
    ],
    ids=["refusal", "content filter"],
)
async def test_a_refusal_of_the_model_is_one(answer: JsonValue) -> None:
    with pytest.raises(AgentRefused):
        await chatted(answer)


@pytest.mark.parametrize("answer", [None, {}, {"choices": []}, completion({"content": ""}), completion(7)], ids=str)
async def test_a_completion_that_is_none_is_a_bad_response(answer: JsonValue) -> None:
    with pytest.raises(AgentBadResponse):
        await chatted(answer)


async def test_a_turn_that_is_taken_again_reads_as_if_it_had_not_been_taken() -> None:
    turns, turn = Turns(), Turn("id", "+5521999999999", "Sim", previous_message="Quer?")
    _, first = await chatted(completion({"content": "Olá!"}), turns, turn)
    _, second = await chatted(completion({"content": "Olá!"}), turns, turn)
    assert first == second
    assert [one.content for one in turns.kept["id"]] == ["Quer?", "Sim", "Olá!"]


async def test_a_turn_that_failed_is_not_kept() -> None:
    turns = Turns()
    with pytest.raises(AgentBadResponse):
        await chatted({}, turns)
    assert turns.kept == {}


def said(*contents: str) -> list[HistoryMessage]:
    return [HistoryMessage(content=content, role="human") for content in contents]


@pytest.mark.parametrize(
    ("contents", "messages", "tokens", "kept"),
    [
        (["a", "b", "c"], 10, 100, ["a", "b", "c"]),
        (["a", "b", "c"], 2, 100, ["b", "c"]),
        (["aaaa", "bbbb", "cccc"], 10, 2, ["bbbb", "cccc"]),
        (["a", "b" * 100], 10, 2, ["b" * 100]),
        ([], 10, 2, []),
    ],
)
def test_the_latest_part_of_a_conversation_is_within_both_limits(
    contents: list[str], messages: int, tokens: int, kept: list[str]
) -> None:
    assert [one.content for one in cut_to_latest(said(*contents), messages=messages, tokens=tokens)] == kept


@given(st.lists(st.text(max_size=50), max_size=20), st.integers(1, 20), st.integers(1, 50))
def test_what_is_kept_is_the_end_and_never_more_than_allowed(contents: list[str], messages: int, tokens: int) -> None:
    kept = [one.content for one in cut_to_latest(said(*contents), messages=messages, tokens=tokens)]
    assert kept == contents[len(contents) - len(kept) :]
    assert len(kept) <= messages
    assert len(kept) <= 1 or sum(-(-len(content) // 4) for content in kept) <= tokens
    assert bool(kept) == bool(contents)


async def test_letta_is_not_told_the_previous_message_again() -> None:
    said: list[list[str]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/create"):
            return httpx.Response(200, json={"agent_id": "agent-1"})
        said.append([message["content"] for message in json.loads(request.content)["messages"]])
        if len(said) == 1:
            raise httpx.ReadTimeout("nobody knows")
        return httpx.Response(200, json={"messages": [{"message_type": "assistant_message", "content": "Olá"}]})

    async with open_memory_redis() as redis, httpx.AsyncClient(transport=httpx.MockTransport(serve)) as client:
        api = JsonApi("eai_agent_service", client, "https://eai.example.org", StaticToken(), SystemClock())
        letta = LettaAgent(
            EaiAgents(api, AgentIdCache(redis, timedelta(hours=1)), NewAgent("agentic_search")), api, SystemClock()
        )
        turn = a_turn("Sim", previous_message="Quer?")
        with pytest.raises(AgentConnectionLost):
            await letta.ask(turn, deadline=deadline_in(5))
        await letta.ask(replace(turn, is_repeated=True), deadline=deadline_in(5))
    assert said == [["Quer?", "Sim"], ["Sim"]]
