"""What the stage decides, with an agent that is a few lines long."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.errors import AgentTimeout, ProviderNotConfigured
from eai_agent_router.failures import GOOGLE
from eai_agent_router.handler import Agents, RouteMessage, TurnContext, UpdateHistory, record_use
from eai_common.clock import Deadline
from eai_common.errors import Permanent, Unavailable
from eai_common.messages import AgentReplied, HistoryMessage, HistoryUpdate, MessageText, MessageTranscribed
from eai_common.replies import AssistantMessage, UsageStatistics
from eai_common.stage import Attempt
from eai_common.testing import LoopClock

pytestmark = pytest.mark.virtual_time

MESSAGE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
MAX_WAIT = timedelta(minutes=10)
ANSWER = Answer((AssistantMessage(id="a", content="Olá!"), UsageStatistics(total_tokens=3)), "user_+5521999999999")


@dataclass
class FakeAgent(Agent):
    """Answers the same to everything, or fails as told."""

    failure: Exception | None = None
    turns: list[Turn] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        self.turns.append(turn)
        self.deadlines.append(deadline)
        if self.failure is not None:
            raise self.failure
        return ANSWER

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        self.histories.append(history)
        return {"status": "ok"}


@dataclass
class FakeThreads:
    """Keeps the books in a list, or fails as told."""

    failure: Exception | None = None
    touched: list[tuple[str, datetime]] = field(default_factory=list)

    async def touch(self, user_number: str, message_id: str, *, at: datetime) -> None:
        if self.failure is not None:
            raise self.failure
        self.touched.append((user_number, at))


def context(*, remaining: timedelta = timedelta(seconds=300)) -> TurnContext:
    return TurnContext(Deadline.after(remaining), Attempt(1), LoopClock(NOW))


def text(**fields: object) -> MessageText:
    given = {"message_id": MESSAGE_ID, "user_number": "+5521999999999", "timestamp": NOW, "message": "Oi"}
    return MessageText.model_validate({**given, **fields})


def transcribed(**fields: object) -> MessageTranscribed:
    given = {"message_type": "audio", "transcript": "Oi, falado", "confidence": 0.2}
    return MessageTranscribed.after(text(), **{**given, **fields})


def history() -> HistoryUpdate:
    return HistoryUpdate.after(text(), messages=[{"content": "Oi", "role": "human"}, {"content": "Olá", "role": "ai"}])


def routing(agent: FakeAgent) -> RouteMessage:
    agents = Agents({GOOGLE: agent}, default=GOOGLE)
    return RouteMessage(agents, MAX_WAIT)


async def test_what_the_user_wrote_becomes_the_agents_reply() -> None:
    replied = await routing(FakeAgent())(text(metadata={"a": 1}), context())
    assert isinstance(replied, AgentReplied)
    assert (tuple(replied.messages), replied.agent_id) == (ANSWER.messages, ANSWER.agent_id)
    assert (replied.message_id, replied.metadata) == (MESSAGE_ID, {"a": 1})


async def test_the_reply_survives_the_broker() -> None:
    replied = await routing(FakeAgent())(text(), context())
    assert AgentReplied.model_validate_json(replied.model_dump_json(by_alias=True)) == replied


async def test_the_agent_is_told_all_that_belongs_to_the_turn() -> None:
    agent = FakeAgent()
    await routing(agent)(text(previous_message="Quer?", reasoning_engine_id="7"), context())
    assert agent.turns == [Turn(MESSAGE_ID, "+5521999999999", "Oi", "Quer?", "7")]


async def test_a_transcript_is_passed_on_word_for_word_even_an_unsure_one() -> None:
    agent = FakeAgent()
    await routing(agent)(transcribed(), context())
    assert [turn.text for turn in agent.turns] == ["Oi, falado"]


async def test_how_sure_a_transcript_is_goes_along_with_it() -> None:
    agent = FakeAgent()
    await routing(agent)(transcribed(), context())
    await routing(agent)(text(), context())
    assert [turn.confidence for turn in agent.turns] == [transcribed().confidence, None]


async def test_a_message_goes_to_the_provider_that_it_names() -> None:
    default, other = FakeAgent(), FakeAgent()
    agents = Agents({"google_agent_engine": default, "openai": other}, default=GOOGLE)
    await RouteMessage(agents, MAX_WAIT)(text(provider="openai"), context())
    assert (len(default.turns), len(other.turns)) == (0, 1)


@pytest.mark.parametrize("provider", ["openai", "nobody"])
async def test_a_provider_that_is_not_configured_fails_at_once_and_for_good(provider: str) -> None:
    with pytest.raises(ProviderNotConfigured) as caught:
        await routing(FakeAgent())(text(provider=provider), context())
    assert isinstance(caught.value, Permanent)
    assert caught.value.error_code == "AGENT_PROVIDER_NOT_CONFIGURED"


async def test_the_use_of_the_thread_is_noted() -> None:
    threads = FakeThreads()
    await record_use(threads, text(), at=NOW)
    assert threads.touched == [("+5521999999999", NOW)]


async def test_books_that_cannot_be_kept_do_not_cost_the_user_the_answer() -> None:
    await record_use(FakeThreads(failure=Unavailable("no redis")), text(), at=NOW)  # raises nothing


async def test_an_error_of_the_agent_reaches_the_runtime_as_it_is() -> None:
    failure = AgentTimeout("too slow")
    with pytest.raises(AgentTimeout) as caught:
        await routing(FakeAgent(failure=failure))(text(), context())
    assert caught.value is failure


@pytest.mark.parametrize(("remaining_s", "given_s"), [(300, 299), (10, 9), (2, 1.8), (0.5, 0.45)])
async def test_the_agent_has_a_little_less_time_than_the_delivery(remaining_s: float, given_s: float) -> None:
    agent = FakeAgent()
    await routing(agent)(text(), context(remaining=timedelta(seconds=remaining_s)))
    assert agent.deadlines[0].remaining_s() == pytest.approx(given_s)


async def test_a_history_is_remembered_and_what_the_provider_said_to_it_goes_on() -> None:
    agent = FakeAgent()
    agents = Agents({"google_agent_engine": agent}, default=GOOGLE)
    updated = await UpdateHistory(agents, MAX_WAIT)(history(), context())
    assert (updated.message_id, updated.answer) == (MESSAGE_ID, {"status": "ok"})
    said = (HistoryMessage(content="Oi", role="human"), HistoryMessage(content="Olá", role="ai"))
    assert agent.histories == [History(MESSAGE_ID, "+5521999999999", said)]
