"""What the formatter decides: the answer is stored before anyone is told, once, and the first end holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from eai_common.clock import Deadline
from eai_common.messages import AgentReplied, HistoryUpdated, MessageFailed, MessageType, Outcome
from eai_common.replies import AssistantMessage
from eai_common.settings import TaskSettings
from eai_common.stage import Attempt, StageContext
from eai_common.store import LatencyStore, RedisClient, StoreUnavailable, TaskStore, open_memory_redis
from eai_common.testing import LoopClock
from eai_formatter.handler import FormatFailure, FormatReply, StoreHistoryAnswer
from eai_formatter.texts import FailureTexts

pytestmark = pytest.mark.virtual_time

ID = "018f2b5e-0000-7000-8000-00000000abcd"
ACCEPTED = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
JOURNEY: dict[str, Any] = {
    "message_id": ID,
    "user_number": "+5521999990000",
    "timestamp": ACCEPTED,
    "metadata": {"ticket": 7},
    "callback_url": "https://channel.example/x",
}
REPLY = AgentReplied(**JOURNEY, agent_id="a", messages=[AssistantMessage(id="1", content="**Olá**, cidadão")])
FAILURE = MessageFailed(
    **JOURNEY, error_code="AGENT_TIMEOUT", error="x", failed_stage="agent-router", retry_after_s=300
)


CLOCK = LoopClock(ACCEPTED + timedelta(seconds=1.25))  # when all messages are formatted
CONTEXT = StageContext(Deadline(60), Attempt(1), CLOCK)


@dataclass
class Formatter:
    """Both handlers, on an in-memory Redis."""

    tasks: TaskStore
    latency: LatencyStore

    @property
    def format_reply(self) -> FormatReply:
        return FormatReply(self.tasks, self.latency, CLOCK)

    @property
    def format_failure(self) -> FormatFailure:
        return FormatFailure(self.tasks, FailureTexts.packaged(), CLOCK)

    async def stored(self) -> Any:
        """The result as a poller would get it."""
        result = (await self.tasks.read(ID)).result
        assert result is not None
        return orjson.loads(result)


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as redis:
        yield redis


@pytest.fixture()
def formatter(redis: RedisClient) -> Formatter:
    return Formatter(TaskStore(redis, TaskSettings.read({})), LatencyStore(redis))


@pytest.mark.parametrize(
    ("channel", "text"),
    [("whatsapp", "*Olá*, cidadão!"), ("telegram", "*Olá*, cidadão\\!"), ("pigeon", "Olá, cidadão!")],
)
async def test_an_answer_is_formatted_for_its_channel(formatter: Formatter, channel: str, text: str) -> None:
    said = [AssistantMessage(id="1", content="**Olá**, cidadão!")]
    reply = REPLY.model_copy(update={"channel": channel, "messages": said})
    completed = await formatter.format_reply(reply, CONTEXT)
    assert completed is not None
    assert (completed.result["content"], completed.channel) == (text, channel)


async def test_an_answer_is_formatted_stored_and_told(formatter: Formatter) -> None:
    completed = await formatter.format_reply(REPLY, CONTEXT)
    assert completed is not None
    assert (completed.status, completed.result) == ("completed", await formatter.stored())
    assert (await formatter.stored())["content"] == "*Olá*, cidadão"


async def test_a_failure_is_put_into_words_stored_and_told(formatter: Formatter) -> None:
    completed = await formatter.format_failure(FAILURE, CONTEXT)
    assert completed is not None
    assert (completed.status, completed.result) == ("failed", await formatter.stored())
    stored = await formatter.stored()
    assert (stored["error_code"], stored["error"], stored["retry_after"]) == (
        "AGENT_TIMEOUT",
        "The agent took too long",
        300,
    )


async def test_what_is_told_carries_the_journey_so_that_a_callback_needs_no_look_up(formatter: Formatter) -> None:
    completed = await formatter.format_reply(REPLY, CONTEXT)
    assert completed is not None
    told = completed.message_id, completed.callback_url, completed.metadata, completed.timestamp
    assert told == (ID, "https://channel.example/x", {"ticket": 7}, ACCEPTED)


async def test_an_answer_that_comes_after_a_failure_is_dropped(formatter: Formatter) -> None:
    await formatter.format_failure(FAILURE, CONTEXT)
    assert await formatter.format_reply(REPLY, CONTEXT) is None
    assert (await formatter.stored())["status"] == "failed"


async def test_a_failure_that_comes_after_an_answer_is_dropped(formatter: Formatter) -> None:
    await formatter.format_reply(REPLY, CONTEXT)
    assert await formatter.format_failure(FAILURE, CONTEXT) is None
    assert (await formatter.stored())["status"] == "completed"


async def test_an_answer_that_is_delivered_again_is_told_again_and_alike(formatter: Formatter) -> None:
    first = await formatter.format_reply(REPLY, CONTEXT)
    assert await formatter.format_reply(REPLY, CONTEXT) == first


async def test_what_became_of_a_history_update_is_stored_with_the_providers_own_answer(formatter: Formatter) -> None:
    updated = HistoryUpdated(**JOURNEY, answer={"output": {"messages": []}})
    completed = await StoreHistoryAnswer(formatter.tasks, CLOCK)(updated, CONTEXT)
    stored = await formatter.stored()
    assert completed is not None
    assert completed.result == stored
    assert (stored["status"], stored["content"], stored["answer"]) == ("completed", "", {"output": {"messages": []}})


async def test_how_long_an_answer_took_is_noted(formatter: Formatter) -> None:
    await formatter.format_reply(REPLY, CONTEXT)
    assert await formatter.latency.recent("text") == [timedelta(seconds=1.25)]


async def test_how_long_a_failure_took_is_not(formatter: Formatter) -> None:
    await formatter.format_failure(FAILURE, CONTEXT)
    assert await formatter.latency.recent("text") == []


class DownStore:
    """A store out of reach."""

    async def finish(self, *_: object, at: datetime, accepted_at: datetime) -> Outcome:
        raise StoreUnavailable("Redis: ConnectionError")

    async def note(self, message_type: MessageType, took: timedelta) -> None:
        raise StoreUnavailable("Redis: ConnectionError")


async def test_nobody_is_told_of_an_answer_that_could_not_be_stored(formatter: Formatter) -> None:
    with pytest.raises(StoreUnavailable):
        await FormatReply(DownStore(), formatter.latency, CLOCK)(REPLY, CONTEXT)


async def test_an_answer_is_told_although_its_time_could_not_be_noted(formatter: Formatter) -> None:
    assert await FormatReply(formatter.tasks, DownStore(), CLOCK)(REPLY, CONTEXT) is not None


async def test_a_very_long_answer_is_stored_in_pieces_that_can_be_sent(formatter: Formatter) -> None:
    paragraph = "Uma **frase** bem comprida sobre os serviços da prefeitura. "
    long = REPLY.model_copy(update={"messages": [AssistantMessage(id="1", content=paragraph * 2000)]})
    completed = await formatter.format_reply(long, CONTEXT)
    assert completed is not None
    contents: Any = completed.result["contents"]
    assert len(contents) > 20
    assert max(map(len, contents)) <= 4096
