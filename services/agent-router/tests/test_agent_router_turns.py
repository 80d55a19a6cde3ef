"""What the inbox worker promises where the mechanisms before it broke their promises (issue 14), test by test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from eai_agent_router.errors import AgentConnectionLost, AgentRefused, AgentTimeout, AgentUnavailable
from eai_agent_router.failures import GOOGLE, Failure, make_error
from eai_agent_router.handler import TurnContext
from eai_agent_router.inbox.testing import (
    RULES,
    USER,
    WATCHFUL,
    FakeAgent,
    World,
    open_world,
    says,
    words_of,
)
from eai_common.broker import Headers, Outgoing
from eai_common.errors import StageError
from eai_common.messages import AgentReplied, Event, HistoryUpdate, HistoryUpdated, MessageFailed, encode, encode_named
from eai_common.stage import run_stage
from eai_common.store import RedisClient, Reply
from eai_common.store.commands import Command
from eai_common.testing import eventually, pass_time

pytestmark = pytest.mark.virtual_time

MERGING = replace(WATCHFUL, mode="merge")
MERGING_RULES = replace(RULES, merge_window_ms=300)
FAIL = replace(RULES, fail_if_uncertain=True)
DEAD = "eai.agent-router.dlq"


@pytest.fixture()
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        world.rules = WATCHFUL
        yield world


def ends(world: World) -> dict[str, str]:
    """How each message ended, by id: the agent's words, or the error."""
    return {
        event.message_id: event.agent_id if isinstance(event, AgentReplied) else getattr(event, "error_code", "")
        for event in world.emitted()
    }


# -- merging


async def test_a_blip_of_the_broker_loses_no_message_of_a_burst(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    first, second = says("a"), says("b")
    go_on = world.agent.hold("a")
    await world.accept(first)
    async with world.replica():
        await world.send(first)
        await eventually(lambda: world.agent.asked == ["a"])
        await world.accept(second)
        await world.send(second)
        await eventually(lambda: world.broker.waiting == 1)
        world.broker.go_down()
        go_on.set()
        await pass_time(timedelta(seconds=2))
        world.broker.come_back()
        await eventually(lambda: len(set(ends(world))) == 2)
        await eventually(lambda: world.is_settled)
        await world.emptied()
    assert (world.agent.asked, ends(world)) == (["a", "b"], {first.message_id: "a", second.message_id: "b"})


async def test_a_merged_turn_that_ends_while_redis_is_away_leaves_nothing_behind(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    burst = [says("a"), says("b"), says("c")]
    go_on = world.agent.hold("a\nb\nc")
    await world.accept(*burst)
    async with world.replica():
        await world.send(*burst)
        await eventually(lambda: world.agent.asked == ["a\nb\nc"])
        world.server.connected = False
        go_on.set()
        await pass_time(timedelta(seconds=5))
        assert world.emitted() == []  # nothing is emitted that is not recorded
        world.server.connected = True
        await eventually(lambda: len(world.emitted()) == 3)
        await eventually(lambda: world.is_settled)
        await world.emptied()
    assert world.agent.asked == ["a\nb\nc"]


# -- order


async def test_a_head_that_is_deferred_is_not_passed_by_its_followers(world: World) -> None:
    world.agent.failures = {"0": [AgentUnavailable("down")] * 2}
    messages = [says(str(number)) for number in range(6)]
    await world.accept(*messages)
    async with world.replica(), world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.answers()) == 6)
    assert world.answers() == [str(number) for number in range(6)]
    assert world.agent.most_at_once == 1


async def test_who_fails_for_long_while_others_wait_ends_with_the_error(world: World) -> None:
    world.rules = replace(WATCHFUL, give_up_after=timedelta(seconds=0.1))
    world.parts = replace(
        world.parts,
        broker_settings=world.parts.broker_settings.model_copy(
            update={"max_retries": 50, "retry_delay": timedelta(milliseconds=100)}
        ),
    )
    world.agent.failures = {"um": [AgentUnavailable("down")] * 50}
    messages = [says("um"), says("dois")]
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.emitted()) == 2)
    assert [ends(world)[one.message_id] for one in messages] == ["AGENT_UNAVAILABLE", "dois"]
    assert world.agent.asked.count("um") < 50


async def test_who_fails_for_long_while_nobody_waits_is_tried_to_the_end(world: World) -> None:
    world.rules = replace(WATCHFUL, give_up_after=timedelta())
    world.agent.failures = {"um": [AgentUnavailable("down")] * 2}
    message = says("um")
    async with world.replica():
        await world.send(message)
        await eventually(lambda: world.answers() == ["um"])
    assert world.agent.asked == ["um"] * 3


async def test_a_lease_that_lapsed_while_redis_was_away_is_taken_again(world: World) -> None:
    messages = [says("um"), says("dois")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica(), world.replica():
        await world.send(*messages)
        await eventually(lambda: world.agent.asked == ["um"])
        world.server.connected = False
        await pass_time(timedelta(seconds=3))  # ten leases
        world.server.connected = True
        await pass_time(timedelta(seconds=5))
        assert world.agent.asked == ["um"]
        go_on.set()
        await eventually(lambda: world.answers() == ["um", "dois"])
    assert world.agent.most_at_once == 1


async def test_after_an_outage_of_redis_whoever_talks_goes_on_at_once(world: World) -> None:
    messages = [says("um"), says("dois")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.agent.asked == ["um"])
        world.server.connected = False
        go_on.set()
        await pass_time(timedelta(seconds=1))
        world.server.connected = True
        await eventually(lambda: world.answers() == ["um", "dois"], within_s=3)


async def test_an_inbox_that_redis_loses_while_a_turn_is_asked_loses_no_message(world: World) -> None:
    messages = [says("um"), says("dois"), says("três")]
    go_on = world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.agent.asked == ["um"])
        await world.redis.driver.delete(f"inbox:{{{USER}}}")  # one key: no part of it can be lost alone
        go_on.set()
        await eventually(lambda: set(world.answers()) == {"um", "dois", "três"}, within_s=30)
        await eventually(lambda: world.is_settled)


async def test_without_order_each_message_is_answered_as_it_comes(world: World) -> None:
    world.rules = replace(WATCHFUL, is_ordered=False)
    messages = [says("um"), says("dois")]
    world.agent.hold("um")
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: world.answers() == ["dois"])
        world.agent.held["um"].set()
        await eventually(lambda: world.answers() == ["dois", "um"])
    assert all("x-eai-outcome-number" not in one.headers for one in world.broker.contents("eai.formatter"))


async def test_outcomes_tell_their_place_among_the_users_outcomes(world: World) -> None:
    messages = [says(str(number)) for number in range(3)]
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.answers()) == 3)
    told = [one.headers for one in world.broker.contents("eai.formatter")]
    numbers = [headers["x-eai-outcome-number"] for headers in told]
    assert numbers == sorted(numbers)
    assert [headers.get("x-eai-outcome-after", 0) for headers in told] == [0, *numbers[:-1]]


# -- replay


async def test_a_redelivery_of_a_failed_message_is_no_replay(world: World) -> None:
    world.agent.failures = {"um": [AgentRefused("no")]}
    message, next_one = says("um"), says("dois")
    world.agent.hold("dois")
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.emitted()) == 1)
        await world.send(next_one)
        await eventually(lambda: world.agent.asked == ["um", "dois"])
        await world.send(message)
        await pass_time(timedelta(seconds=3))
        assert world.agent.asked == ["um", "dois"]
        world.agent.held["dois"].set()
        await eventually(lambda: world.answers() == ["dois"])


async def test_a_replay_is_asked_once_in_its_place_and_says_so_in_its_outcome(world: World) -> None:
    world.agent.failures = {"um": [AgentRefused("no")]}
    message = says("um")
    replay = Outgoing(
        message.name, encode(message), message.message_id, message.name, message.timestamp, {"x-eai-replay": 7}
    )
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.broker.contents(DEAD)) == 1)
        await world.broker.publish(replay)
        await world.broker.publish(replay)
        await eventually(lambda: world.answers() == ["um"])
        await eventually(lambda: world.is_settled)
    assert world.agent.asked == ["um", "um"]
    assert [event.replay for event in world.emitted()] == [0, 7]


# -- once


UNCERTAIN: Sequence[StageError] = [
    AgentTimeout("too slow"),
    AgentConnectionLost("reset"),
    make_error(Failure("eai_agent_service", 500)),
    make_error(Failure(GOOGLE, 400, "FAILED_PRECONDITION", "Reasoning Engine Execution failed")),
]


@pytest.mark.parametrize("error", UNCERTAIN, ids=["timeout", "connection lost", "500", "execution failed"])
async def test_with_fail_a_question_that_may_have_been_answered_is_not_asked_again(
    world: World, error: StageError
) -> None:
    world.inbox_rules = FAIL
    world.agent.failures = {"um": [error] * 5}
    message = says("um")
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.emitted()) == 1)
    assert (world.agent.asked, ends(world)) == (["um"], {message.message_id: "AGENT_OUTCOME_UNKNOWN"})


@pytest.mark.parametrize("error", UNCERTAIN, ids=["timeout", "connection lost", "500", "execution failed"])
async def test_else_it_is_asked_again_and_the_agent_is_told(world: World, error: StageError) -> None:
    world.agent.failures = {"um": [error]}
    async with world.replica():
        await world.send(says("um"))
        await eventually(lambda: world.answers() == ["um"])
    assert world.agent.repeated == [False, True]


@pytest.mark.parametrize("fails", [False, True], ids=["ask_again", "fail"])
async def test_what_an_agent_refused_is_asked_again_as_if_it_had_not_been_asked(world: World, fails: bool) -> None:
    world.inbox_rules = FAIL if fails else RULES
    world.agent.failures = {"um": [AgentUnavailable("503")]}
    async with world.replica():
        await world.send(says("um"))
        await eventually(lambda: world.answers() == ["um"])
    assert world.agent.repeated == [False, False]


async def test_with_fail_a_question_whose_worker_died_is_not_asked_again(world: World) -> None:
    world.inbox_rules = FAIL
    message, dying = says("um"), FakeAgent()
    dying.hold("um")
    await world.send(message)
    await world.killed(dying, once=lambda: dying.asked == ["um"])
    async with world.replica():
        await eventually(lambda: len(world.emitted()) == 1)
    assert (world.agent.asked, ends(world)) == ([], {message.message_id: "AGENT_OUTCOME_UNKNOWN"})


async def test_with_fail_a_message_that_was_not_asked_is_asked_though_redis_was_away(world: World) -> None:
    world.inbox_rules = FAIL
    message, waiting = says("um"), asyncio.Event()
    passed: list[str] = []

    async def slow(event: Event, ctx: TurnContext) -> AgentReplied:
        passed.append("guards")
        await waiting.wait()
        await ctx.before_asking()
        passed.append("asked")
        return AgentReplied.after(event, messages=[], agent_id="ok")

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(world.stage(slow), world.parts, stop))
        await world.send(message)
        await eventually(lambda: passed == ["guards"])
        world.server.connected = False
        waiting.set()
        await pass_time(timedelta(seconds=5))
        world.server.connected = True
        await eventually(lambda: world.answers() == ["ok"])
        stop.set()
    assert passed == ["guards", "asked"]


async def test_what_kills_its_workers_is_given_up_and_its_neighbour_is_not(world: World) -> None:
    killer, neighbour = says("killer"), says("vizinha", user_number="+5521888880000")
    await world.send(killer, neighbour)
    for _ in range(4):
        dying = FakeAgent()
        dying.hold("killer")
        await world.killed(dying, once=lambda: "killer" in dying.asked)  # noqa: B023
    async with world.replica():
        await eventually(lambda: len(world.emitted()) == 2)
    assert ends(world) == {killer.message_id: "POISON_MESSAGE", neighbour.message_id: "vizinha"}
    assert [letter.message_id for letter in world.broker.contents(DEAD)] == [killer.message_id]


async def test_a_history_update_is_repeated_even_with_fail(world: World) -> None:
    world.inbox_rules = FAIL
    asked: list[bool] = []

    async def remember(event: Event, ctx: TurnContext) -> HistoryUpdated:
        await ctx.before_asking()
        asked.append(ctx.is_repeated)
        if len(asked) == 1:
            raise AgentTimeout("too slow")
        return HistoryUpdated.after(event, answer=None)

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(world.stage(remember), world.parts, stop))
        await world.send(HistoryUpdate.after(says("x"), messages=[]))
        await eventually(lambda: len(world.broker.contents("eai.formatter")) == 1)
        stop.set()
    assert asked == [False, False]


async def test_a_reply_that_cannot_be_encoded_ends_as_a_failure(world: World) -> None:
    async def speak(event: Event, ctx: TurnContext) -> AgentReplied:
        await ctx.before_asking()
        return AgentReplied.after(event, messages=[], agent_id="\ud800" if words_of(event) == "um" else "ok")

    first, second = says("um"), says("dois")
    await world.accept(first, second)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(world.stage(speak), world.parts, stop))
        await world.send(first, second)
        await eventually(lambda: len(world.emitted()) == 2)
        stop.set()
    assert ends(world) == {first.message_id: "AGENT_BAD_RESPONSE", second.message_id: "ok"}


# -- dead letters


async def test_a_failure_is_told_before_its_dead_letter_which_has_the_story_of_its_attempts(world: World) -> None:
    world.agent.failures = {"um": [AgentUnavailable("down"), AgentRefused("no")]}
    message = says("um")
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.broker.contents(DEAD)) == 1)
    (letter,) = world.broker.contents(DEAD)
    assert (letter.routing_key, letter.message_id) == ("message.text", message.message_id)
    assert json.loads(letter.body)["message"] == "um"
    assert (letter.headers["x-eai-attempt"], letter.headers["x-eai-dead-letter-error-code"]) == (2, "AGENT_REFUSED")
    errors = json.loads(str(letter.headers["x-eai-errors"]))
    assert [(one["attempt"], one["error_code"]) for one in errors] == [(1, "AGENT_UNAVAILABLE"), (2, "AGENT_REFUSED")]


async def test_each_message_of_a_turn_that_failed_is_a_dead_letter(world: World) -> None:
    world.rules, world.inbox_rules = MERGING, MERGING_RULES
    world.agent.failures = {"a\nb": [AgentRefused("no")]}
    burst = [says("a"), says("b")]
    await world.accept(*burst)
    async with world.replica():
        await world.send(*burst)
        await eventually(lambda: len(world.broker.contents(DEAD)) == 2)
    assert [letter.message_id for letter in world.broker.contents(DEAD)] == [one.message_id for one in burst]
    replied, failed = world.emitted()
    assert isinstance(replied, AgentReplied)
    assert isinstance(failed, MessageFailed)
    assert replied.merged_into == failed.message_id


# -- cancelled and interrupted


async def test_a_message_that_is_cancelled_while_it_is_asked_stops_and_ends_as_cancelled(world: World) -> None:
    message = says("um")
    world.agent.hold("um")
    async with world.replica():
        await world.send(message)
        await eventually(lambda: world.agent.asked == ["um"])
        await world.inboxes.cancel(USER, message.message_id)
        await eventually(lambda: len(world.emitted()) == 1)
    assert (world.agent.at_once, ends(world)) == (0, {message.message_id: "CANCELLED"})


async def test_a_turn_that_a_later_message_interrupts_is_asked_again_with_it(world: World) -> None:
    first, second = says("a"), says("b")
    world.agent.hold("a")
    await world.accept(first)
    async with world.replica():
        await world.send(first)
        await eventually(lambda: world.agent.asked == ["a"])
        world.rules = replace(WATCHFUL, mode="interrupt")
        await world.accept(second)
        await world.send(second)
        await eventually(lambda: world.agent.asked == ["a", "a\nb"])
        await eventually(lambda: len(world.emitted()) == 2)
    assert world.agent.repeated == [False, False]


# -- the end of a process


async def test_a_process_that_stops_hands_back_at_once_what_it_has_not_asked(world: World) -> None:
    message, passed = says("um"), asyncio.Event()

    async def stuck(event: Event, ctx: TurnContext) -> AgentReplied:
        passed.set()
        await asyncio.Event().wait()
        raise AssertionError

    stop = asyncio.Event()
    async with asyncio.timeout(1.5), asyncio.TaskGroup() as group:  # less than the grace of two seconds
        group.create_task(run_stage(world.stage(stuck), world.parts, stop))
        await world.send(message)
        await passed.wait()
        stop.set()
    async with world.replica():
        await eventually(lambda: world.answers() == ["um"], within_s=0.2)
    assert world.agent.repeated == [False]


async def test_what_was_asked_has_the_grace_and_is_then_asked_again(world: World) -> None:
    message, slow = says("um"), FakeAgent()
    slow.hold("um")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(world.stage(slow), world.parts, stop))
        await world.send(message)
        await eventually(lambda: slow.asked == ["um"])
        stop.set()
    async with world.replica():
        await eventually(lambda: world.answers() == ["um"], within_s=0.2)
    assert (slow.at_once, world.agent.repeated) == (0, [True])


async def test_who_is_behind_goes_on_soon_after_a_worker_died_between_two_messages(world: World) -> None:
    messages = [says(str(number)) for number in range(6)]
    dying = FakeAgent()
    dying.hold("1")
    await world.accept(*messages)
    world.rules = replace(WATCHFUL, next_looks=(timedelta(minutes=1),) * 2, others_look=(timedelta(minutes=5),) * 2)
    await world.send(*messages)
    await world.killed(dying, once=lambda: dying.asked == ["0", "1"])
    async with world.replica():
        await eventually(lambda: len(world.answers()) == 6, within_s=20)


async def test_a_delivery_works_on_a_few_turns_and_hands_over(world: World) -> None:
    world.rules = replace(
        WATCHFUL, turns=2, next_looks=(timedelta(minutes=1),) * 2, others_look=(timedelta(hours=1),) * 2
    )
    messages = [says(str(number)) for number in range(7)]
    await world.accept(*messages)
    async with world.replica():
        await world.send(messages[0])  # the others' deliveries are lost
        await eventually(lambda: len(world.answers()) == 7, within_s=2)
    assert world.agent.asked == [str(number) for number in range(7)]


# -- from the version before


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "given up"])
async def test_what_a_router_before_inboxes_recorded_is_not_asked_again(world: World, is_done: bool) -> None:
    message, next_one = says("um"), says("dois")
    reply = AgentReplied.after(message, messages=[], agent_id="antes")
    value = b"done:" + encode_named(reply) if is_done else b"gone:"
    await world.redis.driver.set(f"checkpoint:{{{message.message_id}}}:agent-router", value)
    async with world.replica():
        await world.send(message, next_one)
        await eventually(lambda: "dois" in world.answers())
        await eventually(lambda: world.is_settled)
        await world.emptied()
    assert (world.answers(), world.agent.asked) == (["antes"] * is_done + ["dois"], ["dois"])


async def test_copies_of_the_version_before_are_permits(world: World) -> None:
    message = says("um")
    copies: list[Headers] = [{"x-eai-copy": "waiting", "x-eai-behind-ms": 5000}, {"x-eai-copy": "a1"}]
    async with world.replica():
        for headers in copies:
            await world.broker.publish(
                Outgoing(message.name, encode(message), message.message_id, message.name, message.timestamp, headers)
            )
        await eventually(lambda: world.answers() == ["um"])
        await eventually(lambda: world.is_settled)
    assert world.agent.asked == ["um"]


# -- what it costs


class CountingRedis(RedisClient):
    """Counts the calls of the inbox: each is one round trip that its caller waits for."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.driver = redis.driver
        self.calls = 0

    async def run(self, commands: Sequence[Command]) -> Sequence[Reply]:
        self.calls += 1
        return await self._redis.run(commands)


async def test_a_text_message_waits_for_four_round_trips_to_redis(world: World) -> None:
    counting = CountingRedis(world.redis)
    world.redis = counting
    async with world.replica():
        await world.send(says("um"))
        await eventually(lambda: world.answers() == ["um"])
        await eventually(lambda: world.is_settled)
    assert counting.calls == 4


async def test_a_message_that_waits_for_its_turn_costs_one_round_trip_and_one_publish(world: World) -> None:
    messages = [says("um"), says("dois")]
    world.agent.hold("um")
    await world.accept(*messages)
    async with world.replica():
        await world.send(messages[0])
        await eventually(lambda: world.agent.asked == ["um"])
        counting = CountingRedis(world.redis)
        before, world.redis = world.redis, counting
        async with world.replica():
            world.redis = before
            await world.send(messages[1])
            await eventually(lambda: world.broker.waiting == 1)
        world.agent.held["um"].set()
    assert counting.calls <= 1
