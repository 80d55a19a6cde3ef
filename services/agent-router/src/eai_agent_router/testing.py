"""The contract that every adapter of the port inherits and passes; the provider behind it is a stand-in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from datetime import timedelta
from typing import ClassVar, Protocol

import pytest

from eai_agent_router.agent import Agent, Answer, History, PartialReply, Turn, await_answer
from eai_agent_router.errors import (
    AgentBadRequest,
    AgentBadResponse,
    AgentNotFound,
    AgentRateLimited,
    AgentTimeout,
    AgentUnauthorized,
    AgentUnavailable,
)
from eai_common.clock import Deadline
from eai_common.messages import HistoryMessage
from eai_common.replies import AssistantMessage, UsageStatistics
from eai_common.testing import eventually

__all__ = ["AgentContract", "StandIn", "a_turn", "a_user", "deadline_in", "text_of"]

REPEAT_ME = "o que eu disse antes?"


class StandIn(Protocol):
    """A provider that can be told how to behave, and says what it saw."""

    def fail(self, status: int, *, retry_after: timedelta | None = None) -> None:
        """Answer the next calls with an error."""

    def hang(self) -> None:
        """Take the next call and never answer it."""

    def answer_nonsense(self) -> None:
        """Answer the next call with what no client expects."""

    def questions(self) -> list[str]:
        """What was asked, oldest first."""

    def outcomes(self) -> list[str]:
        """How each call ended; `cancelled` when the client gave up on it."""


def a_turn(text: str, *, thread_id: str | None = None, previous_message: str | None = None) -> Turn:
    """A turn with an id of its own, and a user of its own unless one is given."""
    return Turn(str(uuid.uuid4()), thread_id or a_user(), text, previous_message)


def a_user() -> str:
    """A number that no other test uses."""
    return f"+55{uuid.uuid4().int % 10**11:011}"


def deadline_in(seconds: float) -> Deadline:
    """A deadline so many seconds ahead."""
    return Deadline.after(timedelta(seconds=seconds))


def text_of(answer: Answer) -> str:
    """What clients show: the last assistant message."""
    return [reply for reply in answer.messages if isinstance(reply, AssistantMessage)][-1].content


class AgentContract:
    """Inherit it, and give `agent` and `stand_in` as fixtures; the stand-in answers as eai_sandbox does."""

    REMEMBERS: ClassVar[bool] = True  # False: the provider has no way to take messages without answering them
    SHOWS_TOOLS: ClassVar[bool] = True  # False: what the model does with tools stays inside the provider
    SHOWS_THOUGHTS: ClassVar[bool] = True

    async def test_it_answers_and_closes_with_what_the_turn_cost(self, agent: Agent) -> None:
        answer = await agent.ask(a_turn("Onde pago o IPTU?"), deadline=deadline_in(10))
        assert "IPTU" in text_of(answer)
        closing = answer.messages[-1]
        assert isinstance(closing, UsageStatistics)
        assert closing.total_tokens >= closing.prompt_tokens + closing.completion_tokens > 0
        assert (closing.step_count, closing.agent_id, closing.status) == (1, answer.agent_id, "done")

    async def test_a_stream_ends_in_the_answer_and_what_came_before_are_its_words(self, agent: Agent) -> None:
        *partial, answer = [part async for part in agent.stream(a_turn("Onde pago o IPTU?"), deadline=deadline_in(10))]
        assert isinstance(answer, Answer)
        assert "IPTU" in text_of(answer)
        words = [part.text for part in partial if isinstance(part, PartialReply)]
        assert len(words) == len(partial)
        assert not words or "".join(words) == text_of(answer)

    async def test_a_stream_that_fails_raises_what_an_answer_would_have(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.fail(503)
        with pytest.raises(AgentUnavailable):
            await await_answer(agent.stream(a_turn("Oi"), deadline=deadline_in(10)))

    async def test_it_knows_what_the_user_said_before(self, agent: Agent) -> None:
        user = a_user()
        await agent.ask(a_turn("Meu bairro é a Tijuca", thread_id=user), deadline=deadline_in(10))
        answer = await agent.ask(a_turn(REPEAT_ME, thread_id=user), deadline=deadline_in(10))
        assert "Meu bairro é a Tijuca" in text_of(answer)

    async def test_it_does_not_mix_users_up(self, agent: Agent) -> None:
        await agent.ask(a_turn("Meu bairro é a Tijuca"), deadline=deadline_in(10))
        answer = await agent.ask(a_turn(REPEAT_ME), deadline=deadline_in(10))
        assert "Tijuca" not in text_of(answer)

    async def test_the_previous_message_goes_along_in_the_same_request(self, agent: Agent, stand_in: StandIn) -> None:
        turn = a_turn("Sim, quero", previous_message="Quer receber a segunda via?")
        with_previous = await agent.ask(turn, deadline=deadline_in(10))
        without = await agent.ask(a_turn("Sim, quero"), deadline=deadline_in(10))
        assert stand_in.questions() == ["Sim, quero", "Sim, quero"]
        assert prompt_tokens(with_previous) > prompt_tokens(without)

    async def test_tool_calls_and_what_came_of_them_are_shown(self, agent: Agent) -> None:
        if not self.SHOWS_TOOLS:
            pytest.skip("the provider does not show them")
        answer = await agent.ask(a_turn("Use uma ferramenta para ver os serviços"), deadline=deadline_in(10))
        kinds = [reply.message_type for reply in answer.messages if reply.message_type != "user_message"]
        assert kinds == ["tool_call_message", "tool_return_message", "assistant_message", "usage_statistics"]

    async def test_thoughts_come_before_the_words(self, agent: Agent) -> None:
        if not self.SHOWS_THOUGHTS:
            pytest.skip("the provider does not show them")
        answer = await agent.ask(a_turn("Pense bem: onde há vacina?"), deadline=deadline_in(10))
        kinds = [reply.message_type for reply in answer.messages if reply.message_type != "user_message"]
        assert kinds == ["reasoning_message", "assistant_message", "usage_statistics"]

    async def test_messages_from_elsewhere_are_remembered_without_an_answer(self, agent: Agent) -> None:
        if not self.REMEMBERS:
            pytest.skip("the provider answers whatever it is sent")
        user = a_user()
        elsewhere = (
            HistoryMessage(content="Moro na Penha", role="human"),
            HistoryMessage(content="Anotado!", role="ai"),
        )
        await agent.remember(History(str(uuid.uuid4()), user, elsewhere), deadline=deadline_in(10))
        answer = await agent.ask(a_turn(REPEAT_ME, thread_id=user), deadline=deadline_in(10))
        assert "Moro na Penha" in text_of(answer)

    async def test_no_answer_before_the_deadline_is_a_timeout(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.hang()
        with pytest.raises(AgentTimeout):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(0.3))

    async def test_a_deadline_that_has_passed_is_a_timeout(self, agent: Agent) -> None:
        with pytest.raises(AgentTimeout):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(0))

    async def test_too_many_calls_says_when_to_come_back(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.fail(429, retry_after=timedelta(seconds=7))
        with pytest.raises(AgentRateLimited) as caught:
            await agent.ask(a_turn("Oi"), deadline=deadline_in(10))
        assert caught.value.retry_after == timedelta(seconds=7)

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, AgentUnauthorized),
            (403, AgentUnauthorized),
            (404, AgentNotFound),
            (422, AgentBadRequest),
            (500, AgentUnavailable),
            (503, AgentUnavailable),
            (504, AgentTimeout),
        ],
    )
    async def test_a_failure_is_the_error_of_the_table(
        self, agent: Agent, stand_in: StandIn, status: int, error: type[Exception]
    ) -> None:
        stand_in.fail(status)
        with pytest.raises(error):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(10))

    async def test_an_answer_that_is_none_is_a_bad_response(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.answer_nonsense()
        with pytest.raises(AgentBadResponse):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(10))

    async def test_it_recovers_by_itself_after_a_failure(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.answer_nonsense()
        with pytest.raises(AgentBadResponse):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(10))
        assert text_of(await agent.ask(a_turn("Oi"), deadline=deadline_in(10)))

    async def test_cancelling_reaches_the_provider(self, agent: Agent, stand_in: StandIn) -> None:
        stand_in.hang()
        asking = asyncio.create_task(agent.ask(a_turn("Oi"), deadline=deadline_in(30)))
        await eventually(lambda: stand_in.outcomes() == ["running"])
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: stand_in.outcomes() == ["cancelled"])

    async def test_no_error_repeats_what_the_user_said(self, agent: Agent, stand_in: StandIn) -> None:
        for status in (400, 500):
            stand_in.fail(status)
            error = await error_of(agent.ask(a_turn("meu segredo"), deadline=deadline_in(10)))
            assert "segredo" not in str(error)


def prompt_tokens(answer: Answer) -> int:
    """What the model had to read in the turn."""
    closing = answer.messages[-1]
    assert isinstance(closing, UsageStatistics)
    return closing.prompt_tokens


async def error_of(asking: Awaitable[Answer]) -> BaseException | None:
    """What the call raises."""
    (outcome,) = await asyncio.gather(asking, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else None
