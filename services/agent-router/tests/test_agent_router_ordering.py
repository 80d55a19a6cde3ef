"""One user's messages, one after the other: the real runtime and inboxes, on the in-memory broker and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from eai_agent_router.errors import AgentRefused, AgentUnavailable
from eai_agent_router.handler import TurnContext
from eai_agent_router.inbox.testing import (
    QUEUE,
    RULES,
    USER,
    WATCHFUL,
    FakeAgent,
    World,
    open_world,
    says,
    spoke,
    unheard,
    words_of,
)
from eai_common.errors import Deferred
from eai_common.messages import (
    AgentReplied,
    Event,
    MessageFailed,
    TranscriptionFailed,
)
from eai_common.stage import run_stage
from eai_common.testing import eventually, pass_time

pytestmark = pytest.mark.virtual_time


@pytest.fixture()
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


async def test_messages_are_answered_in_the_order_of_acceptance_whatever_order_they_arrive_in(world: World) -> None:
    first, second, third = says("um"), spoke("dois"), says("três")
    await world.accept(first, second, third)
    async with world.replica(), world.replica():
        await world.send(third, second)
        await world.send(first)
        await eventually(lambda: len(world.answers()) == 3)
    assert (world.answers(), world.agent.asked, world.agent.most_at_once) == (
        ["um", "dois", "três"],
        ["um", "dois", "três"],
        1,
    )


async def test_waiting_costs_no_place_and_no_attempt_and_ends_at_once(world: World) -> None:
    messages = [says(str(number)) for number in range(30)]
    go_on = world.agent.hold("0")
    await world.accept(*messages)
    async with world.replica():  # ten places
        await world.send(*messages)
        await eventually(lambda: world.broker.waiting == 29)
        assert world.broker.unsettled(QUEUE) == 1
        other = says("outra pessoa", user_number="+5521888880000")
        await world.send(other)
        await eventually(lambda: "outra pessoa" in world.answers())
        began = asyncio.get_running_loop().time()
        go_on.set()
        await eventually(lambda: len(world.answers()) == 31)
        # The shortest wait in the ladder would be two seconds for each of them.
        assert asyncio.get_running_loop().time() - began < 2
    assert world.agent.asked == ["0", "outra pessoa", *map(str, range(1, 30))]


async def test_the_copies_in_the_ladder_are_dropped_without_a_second_answer(world: World) -> None:
    world.rules = WATCHFUL
    messages = [says("um"), says("dois")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.broker.waiting == 1)
        go_on.set()
        await eventually(lambda: len(world.answers()) == 2)
        await eventually(lambda: world.is_settled)
        assert world.answers() == ["um", "dois"]
        await world.emptied()


async def test_a_message_that_is_tried_again_keeps_its_place_and_its_tries(world: World) -> None:
    world.agent.failures = {"um": [AgentUnavailable("down")] * 2, "dois": [AgentUnavailable("down")] * 2}
    messages = [says("um"), says("dois"), says("três")]
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.answers()) == 3)
    assert world.answers() == ["um", "dois", "três"]
    assert world.agent.asked == ["um"] * 3 + ["dois"] * 3 + ["três"]


async def test_a_message_that_is_given_up_makes_room_for_the_next_and_its_copies_are_not_tried_again(
    world: World,
) -> None:
    world.rules = WATCHFUL
    world.agent.failures = {"dois": [AgentRefused("no")] * 2}
    messages = [says("um"), says("dois"), says("três")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.broker.waiting == 2)
        go_on.set()
        await eventually(lambda: len(world.emitted()) == 3)
        assert [type(event) for event in world.emitted()] == [AgentReplied, MessageFailed, AgentReplied]
        await eventually(lambda: len(world.broker.contents(QUEUE)) == 0 and world.broker.waiting <= 1)
    assert world.agent.asked == ["um", "dois", "três"]


async def test_a_message_that_was_given_up_can_be_replayed(world: World) -> None:
    world.agent.failures = {"um": [AgentRefused("no")]}
    message = says("um")
    await world.accept(message)
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.emitted()) == 1)
        await eventually(lambda: world.is_settled)
        await world.send(message)  # a redelivery is no replay
        await eventually(lambda: world.is_settled)
        assert world.agent.asked == ["um"]
        await world.send(message.model_copy(update={"replay": 7}))
        await eventually(lambda: world.answers() == ["um"])
    assert world.emitted()[-1].replay == 7


async def test_a_first_message_whose_delivery_is_lost_is_answered_in_its_place(world: World) -> None:
    world.rules = WATCHFUL
    lost, next_one, last = says("perdida"), says("um"), says("dois")
    await world.accept(lost, next_one, last)
    async with world.replica():
        await world.send(next_one, last)
        await eventually(lambda: world.answers() == ["perdida", "um", "dois"])
        await world.send(lost)  # it was only late
        await eventually(lambda: world.is_settled)
        await world.emptied()
    assert world.agent.asked == ["perdida", "um", "dois"]


async def test_a_first_message_in_work_is_not_stuck_however_long_it_takes(world: World) -> None:
    world.rules = WATCHFUL
    messages = [says("um"), says("dois")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.agent.asked) == 1)
        await pass_time(timedelta(seconds=1.5))  # five times the patience, in which the second one looks again
        assert world.agent.asked == ["um"]
        go_on.set()
        await eventually(lambda: world.answers() == ["um", "dois"])


async def test_a_message_behind_a_voice_message_waits_for_its_transcript(world: World) -> None:
    world.rules = WATCHFUL
    audio, text = spoke("fala"), says("escrita")
    await world.accept(unheard(audio), text)
    async with world.replica():
        await world.send(text)
        await pass_time(timedelta(seconds=5))
        assert world.agent.asked == []
        await world.send(audio)
        await eventually(lambda: world.answers() == ["fala", "escrita"], within_s=0.5)


async def test_a_voice_message_that_the_transcriber_gives_up_is_told_in_its_place_and_wakes_the_next(
    world: World,
) -> None:
    audio, text = spoke("fala"), says("escrita")
    await world.accept(unheard(audio), text)
    async with world.replica():
        await world.send(text)
        await eventually(lambda: world.broker.waiting == 1)
        await world.send(
            TranscriptionFailed.after(audio, error_code="AUDIO_TOO_LONG", error="x", failed_stage="transcriber")
        )
        await eventually(lambda: len(world.emitted()) == 2, within_s=0.5)
    failed, answered = world.emitted()
    assert isinstance(failed, MessageFailed)
    assert (failed.error_code, failed.failed_stage, failed.message_id) == (
        "AUDIO_TOO_LONG",
        "transcriber",
        audio.message_id,
    )
    assert isinstance(answered, AgentReplied)
    assert world.broker.contents("eai.agent-router.dlq") == ()  # the transcriber has the dead letter


async def test_a_voice_message_whose_transcript_never_comes_fails_and_holds_up_nobody_for_ever(world: World) -> None:
    world.rules, world.inbox_rules = WATCHFUL, replace(RULES, transcript_wait_ms=2_000)
    audio, text = spoke("fala"), says("escrita")
    await world.accept(unheard(audio), text)
    async with world.replica():
        await world.send(text)
        await pass_time(timedelta(seconds=1))
        assert world.emitted() == []
        await eventually(lambda: len(world.emitted()) == 2)
    failed, answered = world.emitted()
    assert isinstance(failed, MessageFailed)
    assert (failed.error_code, failed.message_id) == ("TRANSCRIPTION_ERROR", audio.message_id)
    assert isinstance(answered, AgentReplied)
    assert [letter.event for letter in world.broker.contents("eai.agent-router.dlq")] == ["message.audio"]


async def test_a_deferred_first_message_is_not_stuck(world: World) -> None:
    world.rules = WATCHFUL
    world.agent.failures = {"um": [Deferred("the limit", delay=timedelta(seconds=0.5))] * 3}
    messages = [says("um"), says("dois")]
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.answers()) == 2)
    assert world.answers() == ["um", "dois"]


async def test_a_replica_that_dies_in_the_middle_breaks_no_order_and_loses_nothing(world: World) -> None:
    messages = [says(str(number)) for number in range(5)]
    dying = FakeAgent()
    dying.hold("1")
    await world.accept(*messages)
    await world.send(*messages)
    await world.killed(dying, once=lambda: dying.asked == ["0", "1"])
    async with world.replica():
        await eventually(lambda: len(world.answers()) == 5)
    assert world.answers() == ["0", "1", "2", "3", "4"]


async def test_messages_that_redis_never_heard_of_are_taken_in_the_order_of_their_times(world: World) -> None:
    first, second = says("um"), says("dois", timestamp=datetime.now(UTC) + timedelta(seconds=1))
    go_on = world.agent.hold("um")
    async with world.replica():
        await world.send(first, second)
        await eventually(lambda: world.broker.waiting == 1)
        go_on.set()
        await eventually(lambda: world.answers() == ["um", "dois"])
        await world.emptied()


async def test_a_redis_that_forgets_everything_loses_no_message(world: World) -> None:
    world.rules = WATCHFUL
    messages = [says("um"), says("dois"), says("três")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.broker.waiting == 2)
        await world.redis.driver.flushall()
        go_on.set()
        await eventually(lambda: len(world.answers()) == 3, within_s=15)
    assert sorted(world.answers()) == ["dois", "três", "um"]


async def test_while_redis_is_gone_messages_wait_in_order(world: World) -> None:
    messages = [says("um"), says("dois")]
    await world.accept(*messages)
    world.server.connected = False
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.broker.waiting == 2)
        world.server.connected = True
        await eventually(lambda: len(world.answers()) == 2, within_s=15)
    assert world.answers() == ["um", "dois"]


@dataclass
class MoodyAgent(FakeAgent):
    """Takes its time, and fails every tenth question once."""

    random: Random = field(default_factory=Random)
    failed: set[str] = field(default_factory=set)

    async def __call__(self, message: Event, ctx: TurnContext) -> AgentReplied:
        text = words_of(message)
        await pass_time(timedelta(seconds=self.random.uniform(0, 0.02)))
        if text not in self.failed and self.random.random() < 0.1:
            self.failed.add(text)
            raise AgentUnavailable("moody")
        return await super().__call__(message, ctx)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_each_user_is_answered_in_order_and_nobody_is_forgotten(world: World, seed: int) -> None:
    world.rules = WATCHFUL
    random = Random(seed)
    agent = MoodyAgent(random=random)
    users = [f"+55219{number:08d}" for number in range(8)]
    messages = [says(f"{user} {number}", user_number=user) for number in range(10) for user in users]
    await world.accept(*messages)
    arrivals = [*messages, *random.sample(messages, 8)]  # some of them twice
    random.shuffle(arrivals)
    is_over = asyncio.Event()

    async def run_and_die() -> None:
        while not is_over.is_set():
            replica = asyncio.create_task(run_stage(world.stage(agent), world.parts, asyncio.Event()))
            await asyncio.wait({replica, asyncio.create_task(is_over.wait())}, timeout=random.uniform(0.2, 0.6))
            replica.cancel()
            await asyncio.gather(replica, return_exceptions=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(run_and_die())
        await world.send(*arrivals)
        await eventually(lambda: len(set(world.answers())) == len(messages), within_s=30)
        is_over.set()
    first_answers = list(dict.fromkeys(world.answers()))
    for user in users:
        assert [text for text in first_answers if text.startswith(user)] == [f"{user} {n}" for n in range(10)]


MERGING = replace(WATCHFUL, mode="merge")
MERGING_RULES = replace(RULES, merge_window_ms=300)


def ends_of(world: World) -> dict[str, tuple[str, str | None]]:
    """By message: what the agent was asked for it, and into which one it was merged."""
    return {
        event.message_id: (event.agent_id, event.merged_into)
        for event in world.emitted()
        if isinstance(event, AgentReplied)
    }


@pytest.mark.parametrize("count", [2, 6])
async def test_a_burst_is_one_turn_and_each_of_its_messages_completes(world: World, count: int) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [spoke("0"), *(says(str(number)) for number in range(1, count))]
    await world.accept(*burst)
    async with world.replica():
        await world.send(*reversed(burst))
        await eventually(lambda: len(world.emitted()) == count)
        await world.emptied()
    last = burst[-1].message_id
    question = "\n".join(map(str, range(count)))
    assert world.agent.asked == [question]
    merged = {one.message_id: (f"user_{USER}", last) for one in burst[:-1]}
    assert ends_of(world) == {**merged, last: (question, None)}


async def test_what_arrives_while_the_agent_is_asked_becomes_the_next_turn(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    first, *more = (says(text) for text in ("a", "b", "c", "d"))
    go_on = world.agent.hold("a")
    await world.accept(first)
    async with world.replica():
        await world.send(first)
        await eventually(lambda: world.agent.asked == ["a"])
        await world.accept(*more)
        await world.send(*more)
        await eventually(lambda: world.broker.waiting == 3)
        go_on.set()
        await eventually(lambda: len(world.emitted()) == 4)
    assert world.agent.asked == ["a", "b\nc\nd"]


async def test_messages_for_different_agents_are_not_merged(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [says("a"), says("b", provider="openai"), says("c", provider="openai")]
    await world.accept(*burst)
    async with world.replica():
        await world.send(*burst)
        await eventually(lambda: len(world.emitted()) == 3)
    assert world.agent.asked == ["a", "b\nc"]


async def test_a_turn_whose_replica_dies_is_formed_again_as_it_was(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [says("a"), says("b"), says("c")]
    late = says("d")
    dying = FakeAgent()
    dying.hold("a\nb\nc")
    await world.accept(*burst)
    await world.send(*burst)
    await world.killed(dying, once=lambda: dying.asked == ["a\nb\nc"])
    await world.accept(late)
    await world.send(late)
    async with world.replica():
        await eventually(lambda: len(world.emitted()) == 4)
        await world.emptied()
    assert world.agent.asked == ["a\nb\nc", "d"]


async def test_a_turn_that_fails_fails_once(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [says("a"), says("b"), says("c")]
    world.agent.failures = {"a\nb\nc": [AgentRefused("no")] * 9}
    await world.accept(*burst)
    async with world.replica():
        await world.send(*burst)
        await eventually(lambda: len(world.emitted()) == 3)
        await eventually(lambda: world.is_settled)
        await world.emptied()
    assert world.agent.asked == ["a\nb\nc"]
    failed = [event.message_id for event in world.emitted() if isinstance(event, MessageFailed)]
    assert failed == [burst[-1].message_id]


async def test_the_previous_message_of_a_burst_goes_along(world: World) -> None:
    seen: list[str | None] = []

    async def looks(message: Event, ctx: TurnContext) -> AgentReplied:
        seen.append(message.previous_message)
        return AgentReplied.after(message, messages=[], agent_id="a")

    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [says("a", previous_message="Quer a segunda via?"), says("b"), says("c", previous_message="Alô?")]
    await world.accept(*burst)
    stage = world.stage(looks)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(stage, world.parts, stop))
        await world.send(*burst)
        await eventually(lambda: len(world.emitted()) == 3)
        stop.set()
    assert seen == ["Quer a segunda via?\nAlô?"]
