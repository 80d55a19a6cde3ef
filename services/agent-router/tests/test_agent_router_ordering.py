"""One user's messages, one after the other: the real runtime and mailboxes, on the in-memory broker and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from fakeredis import FakeServer

from eai_agent_router.merging import text_of
from eai_agent_router.ordering import MailboxOrdering, OrderRules
from eai_common.broker import Outgoing
from eai_common.broker.memory import MemoryBroker
from eai_common.errors import Deferred, Permanent, Retriable
from eai_common.ids import Ids
from eai_common.messages import (
    AgentReplied,
    Event,
    MessageFailed,
    MessageText,
    MessageTranscribed,
    decode,
    encode,
)
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import MailboxEndObserver, Stage, StageContext, StageResources, handler_for, run_stage
from eai_common.store import Checkpoints, Mailboxes, RedisClient, open_memory_redis
from eai_common.store.mailboxes import MergeRule
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock, eventually, pass_time, run_ready
from eai_common.topology import Topology

pytestmark = pytest.mark.virtual_time

QUEUE = "eai.agent-router"
USER = "+5521999990000"
RUNGS = tuple(timedelta(seconds=s) for s in (0.1, 0.5, 1))
LEASE = timedelta(seconds=0.3)
PATIENT = OrderRules(timedelta(seconds=60))
WATCHFUL = replace(PATIENT, next_looks=(timedelta(seconds=0.1),) * 2, others_look=(timedelta(seconds=0.5),) * 2)


class Unreachable(Retriable):
    error_code = "UNREACHABLE"


class Refused(Permanent):
    error_code = "REFUSED"


@dataclass
class FakeAgent:
    """Answers each text when it may; fails a text as often as it was told to."""

    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    failures: dict[str, list[Exception]] = field(default_factory=dict)

    def hold(self, text: str) -> asyncio.Event:
        return self.held.setdefault(text, asyncio.Event())

    async def __call__(self, message: MessageText | MessageTranscribed, ctx: StageContext) -> AgentReplied:
        text = text_of(message)
        self.asked.append(text)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if text in self.held:
                await self.held[text].wait()
            await run_ready(1)
            if self.failures.get(text):
                raise self.failures[text].pop(0)
        finally:
            self.at_once -= 1
        return AgentReplied.after(message, messages=[], agent_id=text)


@dataclass
class World:
    """One broker and one Redis, on which replicas of the agent router run."""

    broker: MemoryBroker
    redis: RedisClient
    server: FakeServer
    mailboxes: Mailboxes
    parts: StageResources
    rules: OrderRules
    agent: FakeAgent = field(default_factory=FakeAgent)

    @asynccontextmanager
    async def replica(self, agent: FakeAgent | None = None) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_stage(self.stage(agent or self.agent), self.parts, stop))
            try:
                yield
            finally:
                stop.set()

    async def killed(self, agent: FakeAgent, *, once: Callable[[], bool]) -> None:
        """A replica that dies as soon as the condition holds."""
        dying = asyncio.create_task(run_stage(self.stage(agent), self.parts, asyncio.Event()))
        await eventually(once)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)

    def stage(self, agent: FakeAgent) -> Stage:
        parts = self.parts
        own, earlier = (
            Checkpoints(parts.redis, stage=name, lease=LEASE, ttl=parts.task_settings.checkpoint_ttl, clock=parts.clock)
            for name in ("agent-router", "transcriber")
        )
        ends = MailboxEndObserver(self.mailboxes, self.broker, parts.clock, parts.ids.random_id)
        ordering = MailboxOrdering(
            self.mailboxes, ends, own, earlier, self.rules, clock=parts.clock, metrics=parts.metrics
        )
        return Stage(
            "agent-router", (handler_for(MessageText, agent), handler_for(MessageTranscribed, agent)), ordering=ordering
        )

    async def accept(self, *messages: Event) -> None:
        """What ingress does with messages, in this order, before any of them reaches the router."""
        for message in messages:
            await self.mailboxes.enter(message.user_number, message.message_id, at=self.parts.clock.now())

    async def send(self, *messages: Event) -> None:
        for event in messages:
            await self.broker.publish(
                Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp, {})
            )

    def emitted(self) -> list[Event]:
        kinds: list[type[AgentReplied] | type[MessageFailed]] = [AgentReplied, MessageFailed]
        return [
            decode(one.body, event_name=one.event, accepts=kinds, fallback_time=None)
            for one in self.broker.contents("eai.formatter")
        ]

    def answers(self) -> list[str]:
        return [event.agent_id for event in self.emitted() if isinstance(event, AgentReplied)]

    async def emptied(self) -> None:
        """Return once nothing of the user is waiting or in work."""

        async def is_empty() -> bool:
            return not await self.redis.driver.exists(f"mailbox:{{{USER}}}")

        await eventually(is_empty, within_s=10)

    @property
    def is_settled(self) -> bool:
        return not self.broker.contents(QUEUE) and self.broker.unsettled(QUEUE) == 0 and self.broker.waiting == 0


@pytest.fixture()
async def world() -> AsyncIterator[World]:
    clock = LoopClock()
    server = FakeServer()
    tasks = TaskSettings()
    async with MemoryBroker(Topology(ladder=RUNGS), clock) as broker, open_memory_redis(server) as redis:
        parts = StageResources(
            broker=broker,
            redis=redis,
            clock=clock,
            random=RANDOM,
            ids=Ids(clock, RANDOM),
            metrics=Metrics(),
            tracing=open_tracing(TelemetrySettings(), service="test"),
            broker_settings=BrokerSettings(max_retries=2, retry_delay=timedelta(milliseconds=20)),
            worker_settings=WorkerSettings(worker_timeout=timedelta(seconds=20), checkpoint_lease=LEASE),
            task_settings=tasks,
            process_settings=ProcessSettings(shutdown_grace=timedelta(seconds=2)),
        )
        mailboxes = Mailboxes(redis, tasks.task_processing_ttl)
        yield World(broker, redis, server, mailboxes, parts, PATIENT)


def says(text: str, **fields: object) -> MessageText:
    given = {
        "message_id": Ids(LoopClock(), RANDOM).message_id(),
        "user_number": USER,
        "timestamp": LoopClock().now(),
        "message": text,
    }
    return MessageText.model_validate({**given, **fields})


def spoke(text: str) -> MessageTranscribed:
    return MessageTranscribed.after(says(text), message_type="audio", transcript=text)


async def test_messages_are_answered_in_the_order_of_acceptance_whatever_order_they_arrive_in(world: World) -> None:
    first, second, third = says("um"), spoke("dois"), says("três")
    await world.accept(first, second, third)
    async with world.replica(), world.replica():
        await world.send(third, second)
        await eventually(lambda: world.broker.waiting == 2)
        assert world.agent.asked == []
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
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.4))
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
    world.agent.failures = {"um": [Unreachable("down")] * 2, "dois": [Unreachable("down")] * 2}
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
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.4))
    world.agent.failures = {"dois": [Refused("no")] * 2}
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
    world.agent.failures = {"um": [Refused("no")]}
    message = says("um")
    await world.accept(message)
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.emitted()) == 1)
        await eventually(lambda: world.is_settled)
        await world.send(message)
        await eventually(lambda: world.answers() == ["um"])


async def test_a_first_message_that_never_comes_is_passed_after_a_while_and_counted(world: World) -> None:
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.6))
    lost, next_one, last = says("perdida"), says("um"), says("dois")
    await world.accept(lost, next_one, last)
    async with world.replica():
        await world.send(next_one, last)
        await eventually(lambda: world.broker.waiting == 2)
        assert world.answers() == []
        await eventually(lambda: world.answers() == ["um", "dois"])
        await world.send(lost)  # it was only late
        await eventually(lambda: world.answers() == ["um", "dois", "perdida"])
        await world.emptied()
    assert b"ordering_passed_total 1.0" in world.parts.metrics.exposition()


async def test_a_first_message_in_work_is_not_stuck_however_long_it_takes(world: World) -> None:
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.3))
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


async def test_a_voice_message_that_is_being_transcribed_is_not_stuck(world: World) -> None:
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.3))
    audio, text = spoke("fala"), says("escrita")
    transcriber = Checkpoints(
        world.redis, stage="transcriber", lease=LEASE, ttl=timedelta(hours=24), clock=world.parts.clock
    )
    await world.accept(audio, text)
    async with transcriber.renewing():
        await transcriber.claim(audio.message_id, "a replica of the transcriber")
        async with world.replica():
            await world.send(text)
            await pass_time(timedelta(seconds=1.5))
            assert world.agent.asked == []
            await transcriber.record(audio.message_id, b"")
            await world.send(audio)
            await eventually(lambda: world.answers() == ["fala", "escrita"])


async def test_a_voice_message_that_the_transcriber_gives_up_wakes_the_next(world: World) -> None:
    audio, text = spoke("fala"), says("escrita")
    await world.accept(audio, text)
    ends = MailboxEndObserver(world.mailboxes, world.broker, world.parts.clock, world.parts.ids.random_id)
    async with world.replica():
        await world.send(text)
        await eventually(lambda: world.broker.waiting == 1)
        await ends.record_end(USER, [audio.message_id])
        await eventually(lambda: world.answers() == ["escrita"], within_s=0.5)


async def test_a_deferred_first_message_is_not_stuck(world: World) -> None:
    world.rules = replace(WATCHFUL, max_wait=timedelta(seconds=0.4))
    world.agent.failures = {"um": [Deferred("the limit", delay=timedelta(seconds=0.5))] * 3}
    messages = [says("um"), says("dois")]
    await world.accept(*messages)
    async with world.replica():
        await world.send(*messages)
        await eventually(lambda: len(world.answers()) == 2)
    assert world.answers() == ["um", "dois"]
    assert b"ordering_passed_total 0.0" in world.parts.metrics.exposition()


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

    async def __call__(self, message: MessageText | MessageTranscribed, ctx: StageContext) -> AgentReplied:
        text = text_of(message)
        await pass_time(timedelta(seconds=self.random.uniform(0, 0.02)))
        if text not in self.failed and self.random.random() < 0.1:
            self.failed.add(text)
            raise Unreachable("moody")
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


MERGING = replace(WATCHFUL, merging=MergeRule(window=timedelta(seconds=0.3), longest=timedelta(seconds=1.5)))


def ends_of(world: World) -> dict[str, tuple[str, str | None]]:
    """By message: what the agent was asked for it, and into which one it was merged."""
    return {
        event.message_id: (event.agent_id, event.merged_into)
        for event in world.emitted()
        if isinstance(event, AgentReplied)
    }


@pytest.mark.parametrize("count", [2, 6])
async def test_a_burst_is_one_turn_and_each_of_its_messages_completes(world: World, count: int) -> None:
    world.rules = MERGING
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
    world.rules = MERGING
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
    world.rules = MERGING
    burst = [says("a"), says("b", provider="openai"), says("c", provider="openai")]
    await world.accept(*burst)
    async with world.replica():
        await world.send(*burst)
        await eventually(lambda: len(world.emitted()) == 3)
    assert world.agent.asked == ["a", "b\nc"]


async def test_a_turn_whose_replica_dies_is_formed_again_as_it_was(world: World) -> None:
    world.rules = MERGING
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
    world.rules = MERGING
    burst = [says("a"), says("b"), says("c")]
    world.agent.failures = {"a\nb\nc": [Refused("no")] * 9}
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

    async def looks(message: MessageText | MessageTranscribed, ctx: StageContext) -> AgentReplied:
        seen.append(message.previous_message)
        return AgentReplied.after(message, messages=[], agent_id="a")

    world.rules = MERGING
    burst = [says("a", previous_message="Quer a segunda via?"), says("b"), says("c", previous_message="Alô?")]
    await world.accept(*burst)
    stage = replace(world.stage(world.agent), handlers=(handler_for(MessageText, looks),))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(stage, world.parts, stop))
        await world.send(*burst)
        await eventually(lambda: len(world.emitted()) == 3)
        stop.set()
    assert seen == ["Quer a segunda via?\nAlô?"]
