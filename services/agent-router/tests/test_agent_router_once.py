"""Asking an agent once, as far as that can be known."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest
from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.attempts import AttemptStore
from eai_agent_router.eai_service import EaiAgents, LettaAgent, NewAgent
from eai_agent_router.errors import AgentConnectionLost, AgentOutcomeUnknown, AgentTimeout, AgentUnavailable
from eai_agent_router.json_api import JsonApi, StaticToken
from eai_agent_router.once import AskOnceAgent, IfUncertain
from eai_agent_router.testing import a_turn, deadline_in
from eai_agent_router.threads import AgentIdCache
from eai_common.clock import Deadline, SystemClock
from eai_common.errors import Permanent
from eai_common.store import RedisClient, open_memory_redis
from eai_common.telemetry import Metrics

HOUR = timedelta(hours=1)
ANSWER = Answer((), "a")


@dataclass
class FakeAgent(Agent):
    """Fails as told, then answers."""

    failures: list[BaseException] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        self.turns.append(turn)
        if self.failures:
            raise self.failures.pop(0)
        return ANSWER

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        return None


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as redis:
        yield redis


def once(agent: Agent, redis: RedisClient, if_uncertain: IfUncertain = "ask_again") -> AskOnceAgent:
    ids = map(str, itertools.count())
    attempts = AttemptStore(redis, HOUR)
    return AskOnceAgent(agent, "openai", attempts, if_uncertain, new_id=lambda: next(ids), metrics=Metrics())


@pytest.mark.parametrize(
    "lost",
    [asyncio.CancelledError(), AgentTimeout("too slow"), AgentConnectionLost("reset")],
    ids=["died", "timeout", "connection lost"],
)
async def test_when_nobody_knows_what_came_of_a_question_it_is_asked_again_and_says_so(
    redis: RedisClient, lost: BaseException
) -> None:
    agent, turn = FakeAgent([lost]), a_turn("Oi")
    asking = once(agent, redis)
    with pytest.raises(type(lost)):
        await asking.ask(turn, deadline=deadline_in(5))
    assert await asking.ask(turn, deadline=deadline_in(5)) is ANSWER
    assert [one.is_repeated for one in agent.turns] == [False, True]


async def test_or_it_fails_for_good_if_the_deployment_wants_that(redis: RedisClient) -> None:
    agent, turn = FakeAgent([asyncio.CancelledError()]), a_turn("Oi")
    asking = once(agent, redis, "fail")
    with pytest.raises(asyncio.CancelledError):
        await asking.ask(turn, deadline=deadline_in(5))
    with pytest.raises(AgentOutcomeUnknown) as caught:
        await asking.ask(turn, deadline=deadline_in(5))
    assert (len(agent.turns), isinstance(caught.value, Permanent)) == (1, True)


@pytest.mark.parametrize("if_uncertain", ["ask_again", "fail"])
async def test_what_an_agent_refused_is_asked_again_as_if_it_had_not_been_asked(
    redis: RedisClient, if_uncertain: IfUncertain
) -> None:
    agent, turn = FakeAgent([AgentUnavailable("503")]), a_turn("Oi")
    asking = once(agent, redis, if_uncertain)
    with pytest.raises(AgentUnavailable):
        await asking.ask(turn, deadline=deadline_in(5))
    assert await asking.ask(turn, deadline=deadline_in(5)) is ANSWER
    assert [one.is_repeated for one in agent.turns] == [False, False]


async def test_letta_is_not_told_the_previous_message_again(redis: RedisClient) -> None:
    said: list[list[str]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/create"):
            return httpx.Response(200, json={"agent_id": "agent-1"})
        said.append([message["content"] for message in json.loads(request.content)["messages"]])
        if len(said) == 1:
            raise httpx.ReadTimeout("nobody knows")
        return httpx.Response(200, json={"messages": [{"message_type": "assistant_message", "content": "Olá"}]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve)) as client:
        api = JsonApi("eai_agent_service", client, "https://eai.example.org", StaticToken(), SystemClock())
        letta = LettaAgent(EaiAgents(api, AgentIdCache(redis, HOUR), NewAgent("agentic_search")), api, SystemClock())
        asking, turn = once(letta, redis), a_turn("Sim", previous_message="Quer?")
        with pytest.raises(AgentConnectionLost):
            await asking.ask(turn, deadline=deadline_in(5))
        await asking.ask(turn, deadline=deadline_in(5))
    assert said == [["Quer?", "Sim"], ["Sim"]]
