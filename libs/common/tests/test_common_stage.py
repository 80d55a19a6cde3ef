"""The stage runtime, on the in-memory broker and Redis: what becomes of a delivery, whatever its handler does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from fakeredis import FakeServer
from opentelemetry import trace as otel

from eai_common.broker import Outgoing
from eai_common.broker.headers import DEAD_LETTER_ERROR_CODE, DEAD_LETTER_EVIDENCE
from eai_common.broker.memory import MemoryBroker, Message
from eai_common.errors import Deferred, Permanent, Retriable
from eai_common.ids import Ids
from eai_common.messages import (
    AgentReplied,
    Event,
    MessageAudio,
    MessageFailed,
    MessageText,
    TranscriptionFailed,
    decode,
    encode,
)
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import RoutineWait, Stage, StageContext, StageResources, handler_for, run_stage
from eai_common.stage.delivery import Defer, Failed, HandBack, Postpone, Process, Verdict, Work
from eai_common.stage.runtime import Runtime
from eai_common.stage.steps import STEPS, decode_delivery
from eai_common.store import RedisClient, TaskStore, open_memory_redis
from eai_common.telemetry import Metrics, add_to_line, open_tracing
from eai_common.telemetry.testing import captured_log
from eai_common.testing import RANDOM, LoopClock, eventually, pass_time, run_ready
from eai_common.topology import Topology

pytestmark = pytest.mark.virtual_time

QUEUE = "eai.agent-router"
FORMATTER = "eai.formatter"
DEAD = "eai.agent-router.dlq"
STEP = timedelta(seconds=0.05)
TOPOLOGY = Topology(ladder=(STEP, timedelta(seconds=5)))
Handler = Callable[[MessageText, StageContext], Awaitable[Event | None]]


class RateLimited(Retriable):
    error_code = "RATE_LIMITED"


class Refused(Permanent):
    error_code = "REFUSED"


@dataclass
class FakeAgent:
    """A handler that does what it is told, in turn, and answers afterwards."""

    first: list[Exception] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def __call__(self, message: MessageText, ctx: StageContext) -> AgentReplied:
        self.asked.append(message.message_id)
        self.attempts.append(ctx.attempt.number)
        await self.may_answer.wait()
        if self.first:
            raise self.first.pop(0)
        return AgentReplied.after(message, messages=[], agent_id="user_+5521999990000")


@dataclass
class World:
    """One broker and one Redis, on which replicas of the agent router run."""

    broker: MemoryBroker
    redis: RedisClient
    redis_server: FakeServer
    agent: FakeAgent
    parts: StageResources

    @asynccontextmanager
    async def replica(self, handler: Handler | None = None) -> AsyncIterator[asyncio.Event]:
        """A running stage; setting the event, or leaving the context, stops it in good order."""
        stop = asyncio.Event()
        stage = Stage("agent-router", (handler_for(MessageText, handler or self.agent),))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_stage(stage, self.parts, stop))
            try:
                yield stop
            finally:
                stop.set()

    async def send(self, event: Event) -> None:
        await self.broker.publish(
            Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp, event.trace_headers)
        )

    async def replies(self, count: int = 1) -> list[str]:
        """The events that reached the formatter, once there are `count`."""
        await eventually(lambda: len(self.broker.contents(FORMATTER)) >= count)
        return [message.event or "" for message in self.broker.contents(FORMATTER)]

    async def dead_letter(self) -> Message:
        await eventually(lambda: len(self.broker.contents(DEAD)) >= 1)
        return self.broker.contents(DEAD)[0]

    @property
    def is_settled(self) -> bool:
        return not self.broker.contents(QUEUE) and self.broker.unsettled(QUEUE) == 0 and self.broker.waiting == 0


@pytest.fixture()
async def world() -> AsyncIterator[World]:
    clock = LoopClock()
    server = FakeServer()
    async with MemoryBroker(TOPOLOGY, clock) as broker, open_memory_redis(server) as redis:
        parts = StageResources(
            broker=broker,
            redis=redis,
            clock=clock,
            random=RANDOM,
            ids=Ids(clock, RANDOM),
            metrics=Metrics(),
            tracing=open_tracing(TelemetrySettings(), service="test"),
            broker_settings=BrokerSettings(max_retries=2, retry_delay=timedelta(milliseconds=20)),
            worker_settings=WorkerSettings(
                worker_timeout=timedelta(seconds=5), checkpoint_lease=timedelta(seconds=0.3)
            ),
            task_settings=TaskSettings(),
            process_settings=ProcessSettings(shutdown_grace=timedelta(seconds=2)),
        )
        yield World(broker, redis, server, FakeAgent(), parts)


def a_message(**fields: object) -> MessageText:
    return MessageText.model_validate(
        {
            "message_id": Ids(LoopClock(), RANDOM).message_id(),
            "user_number": "+5521999990000",
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "message": "Qual o horário?",
            **fields,
        }
    )


def read(message: Message) -> MessageFailed:
    return decode(message.body, event_name=message.event, accepts=[MessageFailed], fallback_time=None)


async def test_what_a_handler_returns_is_emitted_and_its_delivery_is_acked(world: World) -> None:
    async with world.replica():
        await world.send(a_message())
        assert await world.replies() == ["agent.replied"]
        await eventually(lambda: world.is_settled)


async def test_a_retriable_error_is_tried_again_and_then_answered(world: World) -> None:
    world.agent.first = [RateLimited("quota"), RateLimited("quota")]
    async with world.replica():
        await world.send(a_message())
        assert await world.replies() == ["agent.replied"]
        assert world.agent.attempts == [1, 2, 3]


async def test_a_message_out_of_retries_tells_the_user_and_goes_to_the_dead_letters(world: World) -> None:
    world.agent.first = [RateLimited("quota") for _ in range(9)]
    async with world.replica():
        await world.send(a_message())
        await world.dead_letter()
        failure = read(world.broker.contents(FORMATTER)[0])
        assert (failure.error_code, failure.failed_stage, failure.retry_after_s) == (
            "RATE_LIMITED",
            "agent-router",
            300,
        )
        assert world.agent.attempts == [1, 2, 3]


async def test_a_dead_letter_keeps_the_history_of_its_errors(world: World) -> None:
    world.agent.first = [RateLimited("one"), RateLimited("two"), Refused("three")]
    async with world.replica():
        await world.send(a_message())
        history = json.loads(str((await world.dead_letter()).headers["x-eai-errors"]))
        assert [(entry["attempt"], entry["error_code"], entry["error"]) for entry in history] == [
            (1, "RATE_LIMITED", "one"),
            (2, "RATE_LIMITED", "two"),
            (3, "REFUSED", "three"),
        ]


class Odd(Permanent):
    """Its answer is nothing that we know."""

    error_code = "ODD"

    def __init__(self, evidence: object) -> None:
        super().__init__("odd")
        self.evidence = evidence


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ({"said": "Ligue +5521987654321", "token": "s3cr3t"}, '{"said": "Ligue +55•••••4321", "token": "[hidden]"}'),
        (b'{"token": "s3cr3t", "x": 1', '{"token": "[hidden]", "x": 1'),
        ("Olá, 5521987654321", "Olá, 552•••••4321"),
        ("x" * 20_000, "x" * 8_000),
        (None, None),
    ],
    ids=["json", "bytes", "text", "long", "none"],
)
async def test_a_dead_letter_keeps_what_could_not_be_understood_masked(
    world: World, answer: object, kept: str | None
) -> None:
    world.agent.first = [Odd(answer)]
    async with world.replica():
        await world.send(a_message())
        assert (await world.dead_letter()).headers.get(DEAD_LETTER_EVIDENCE) == kept


async def test_a_permanent_error_is_not_tried_again(world: World) -> None:
    world.agent.first = [Refused("safety")]
    async with world.replica():
        await world.send(a_message())
        await world.dead_letter()
        failure = read(world.broker.contents(FORMATTER)[0])
        assert (failure.error_code, failure.retry_after_s, world.agent.attempts) == ("REFUSED", None, [1])


async def test_a_bug_in_a_handler_is_retried_like_a_passing_error(world: World) -> None:
    world.agent.first = [KeyError("a bug")]
    async with world.replica():
        await world.send(a_message())
        assert await world.replies() == ["agent.replied"]


async def test_a_providers_wish_to_wait_is_honoured(world: World) -> None:
    world.agent.first = [RateLimited("quota", retry_after=timedelta(seconds=3))]
    async with world.replica():
        await world.send(a_message())
        await eventually(lambda: world.broker.waiting == 1)
        await pass_time(3 * STEP)  # three of the short rungs: it must not come back by one of them
        assert world.agent.attempts == [1]


async def test_a_deferral_costs_no_attempt(world: World) -> None:
    world.agent.first = [Deferred("not your turn", delay=STEP) for _ in range(6)]
    async with world.replica():
        await world.send(a_message())
        assert await world.replies() == ["agent.replied"]
        assert world.agent.attempts == [1] * 7


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"{", b"[]", b"null", b"{}", b'{"schema":1}', b'{"schema":2}'], ids=lambda body: repr(body)
)
async def test_garbage_goes_to_the_dead_letters_with_the_reason_and_the_stage_lives(world: World, body: bytes) -> None:
    async with world.replica():
        world.broker.put(QUEUE, Message(QUEUE, body))
        await world.send(a_message())
        assert await world.replies() == ["agent.replied"]
        assert (await world.dead_letter()).headers[DEAD_LETTER_ERROR_CODE] == "INVALID_MESSAGE"


async def test_a_message_of_an_unknown_schema_still_ends_in_an_answer(world: World) -> None:
    async with world.replica():
        fields = json.loads(encode(a_message()))
        body = json.dumps({**fields, "schema": 2}).encode()
        world.broker.put(QUEUE, Message(QUEUE, body))
        await world.dead_letter()
        failure = read(world.broker.contents(FORMATTER)[0])
        assert (failure.message_id, failure.error_code) == (fields["message_id"], "INVALID_MESSAGE")


async def test_a_redelivery_after_the_record_emits_it_again_and_asks_the_agent_once(world: World) -> None:
    message = a_message()
    async with world.replica():
        await world.send(message)
        await world.replies(1)
        await world.send(message)
        assert await world.replies(2) == ["agent.replied", "agent.replied"]
        assert len(world.agent.asked) == 1


async def test_two_deliveries_of_one_message_at_the_same_time_ask_the_agent_once(world: World) -> None:
    message = a_message()
    world.agent.may_answer.clear()
    async with world.replica():
        await world.send(message)
        await world.send(message)
        await eventually(lambda: world.broker.waiting == 1)
        world.agent.may_answer.set()
        await world.replies(2)
        assert len(world.agent.asked) == 1


async def test_a_lease_is_renewed_for_as_long_as_the_handler_works(world: World) -> None:
    message = a_message()
    world.agent.may_answer.clear()
    async with world.replica():
        await world.send(message)
        await eventually(lambda: len(world.agent.asked) == 1)
        await pass_time(2 * world.parts.worker_settings.checkpoint_lease)
        await world.send(message)
        await eventually(lambda: world.broker.waiting == 1)
        assert len(world.agent.asked) == 1
        world.agent.may_answer.set()
        await world.replies(2)


async def test_a_message_whose_replica_died_is_answered_by_another(world: World) -> None:
    dying_agent = FakeAgent()
    dying_agent.may_answer.clear()
    stage = Stage("agent-router", (handler_for(MessageText, dying_agent),))
    dying = asyncio.create_task(run_stage(stage, world.parts, asyncio.Event()))
    await world.send(a_message())
    await eventually(lambda: len(dying_agent.asked) == 1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    async with world.replica():
        assert await world.replies() == ["agent.replied"]


async def test_a_handler_that_takes_too_long_is_ended_and_tried_again(world: World) -> None:
    world.parts = replace(
        world.parts,
        worker_settings=WorkerSettings(worker_timeout=timedelta(seconds=0.1), checkpoint_lease=timedelta(seconds=1)),
    )
    world.agent.may_answer.clear()
    async with world.replica():
        await world.send(a_message())
        failure = await world.dead_letter()
        assert (failure.headers[DEAD_LETTER_ERROR_CODE], world.agent.attempts) == ("STAGE_TIMEOUT", [1, 2, 3])


async def test_while_redis_is_gone_messages_wait_and_lose_no_attempt(world: World) -> None:
    world.redis_server.connected = False
    async with world.replica():
        await world.send(a_message())
        await eventually(lambda: world.broker.waiting == 1)
        world.redis_server.connected = True
        await world.replies()
        assert world.agent.attempts == [1]


async def test_a_reply_waits_for_a_broker_that_is_down_and_the_agent_is_asked_once(world: World) -> None:
    world.agent.may_answer.clear()
    async with world.replica():
        await world.send(a_message())
        await eventually(lambda: len(world.agent.asked) == 1)
        world.broker.go_down()
        world.agent.may_answer.set()
        await run_ready()
        world.broker.come_back()
        await world.replies()
        await eventually(lambda: world.is_settled)
        assert len(world.agent.asked) == 1


async def test_on_stop_what_is_in_flight_is_finished_and_nothing_new_is_taken(world: World) -> None:
    world.agent.may_answer.clear()
    async with world.replica() as stop:
        await world.send(a_message())
        await eventually(lambda: len(world.agent.asked) == 1)
        stop.set()
        await world.send(a_message())
        world.agent.may_answer.set()
    assert (len(world.agent.asked), len(world.broker.contents(QUEUE)), len(world.broker.contents(FORMATTER))) == (
        1,
        1,
        1,
    )


async def test_what_is_not_finished_within_the_grace_is_handed_back_with_its_lease(world: World) -> None:
    world.parts = replace(world.parts, process_settings=ProcessSettings(shutdown_grace=timedelta(seconds=0.05)))
    world.agent.may_answer.clear()
    async with world.replica():
        await world.send(a_message())
        await eventually(lambda: len(world.agent.asked) == 1)
    assert len(world.broker.contents(QUEUE)) == 1
    world.agent.may_answer.set()
    async with world.replica():
        await world.replies()
        assert world.agent.attempts == [1, 1]


async def test_a_message_that_kills_its_consumers_is_given_up_before_the_broker_drops_it(world: World) -> None:
    event = a_message()
    async with world.replica():
        world.broker.put(QUEUE, Message(event.name, encode(event), event.message_id, event.name, redeliveries=11))
        assert (await world.dead_letter()).headers[DEAD_LETTER_ERROR_CODE] == "POISON_MESSAGE"
        assert (await world.replies(), world.agent.asked) == (["message.failed"], [])


async def test_giving_up_on_a_failure_does_not_announce_another(world: World) -> None:
    async def cannot(message: MessageFailed, ctx: StageContext) -> None:
        raise Refused("the store refuses it")

    stage = Stage("formatter", (handler_for(MessageFailed, cannot),))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(stage, world.parts, stop))
        failed = MessageFailed.after(a_message(), error_code="X", error="x", failed_stage="y")
        await world.send(failed)
        await eventually(lambda: len(world.broker.contents("eai.formatter.dlq")) == 1)
        stop.set()
    assert world.broker.contents(FORMATTER) == ()


async def test_an_event_that_no_queue_takes_is_an_error_and_not_a_silent_drop(world: World) -> None:
    class Unheard(AgentReplied):
        name = "nobody.listens"

    async def shouts(message: MessageText, ctx: StageContext) -> Unheard:
        return Unheard.after(message, messages=[], agent_id="a")

    async with world.replica(shouts):
        await world.send(a_message())
        assert (await world.dead_letter()).headers[DEAD_LETTER_ERROR_CODE] == "UNROUTABLE"


async def test_the_trace_goes_on_in_what_is_emitted(world: World) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    seen: list[str] = []

    async def looks(message: MessageText, ctx: StageContext) -> AgentReplied:
        seen.append(f"{otel.get_current_span().get_span_context().trace_id:032x}")
        return AgentReplied.after(message, messages=[], agent_id="a")

    async with world.replica(looks):
        await world.send(a_message(trace_headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}))
        await world.replies()
        emitted = str(world.broker.contents(FORMATTER)[0].headers["traceparent"])
        assert (seen, emitted.split("-")[1]) == ([trace_id], trace_id)


async def test_the_status_names_the_stage_and_the_last_error(world: World) -> None:
    world.agent.first = [RateLimited("quota", retry_after=timedelta(seconds=3))]
    message = a_message()
    tasks = TaskStore(world.redis, world.parts.task_settings)

    async def is_noted() -> bool:
        status = (await tasks.read(message.message_id)).status
        return status is not None and status.fields.get("last_error", "").startswith("RATE_LIMITED")

    async with world.replica():
        await world.send(message)
        await eventually(is_noted)
        status = (await tasks.read(message.message_id)).status
        assert status is not None
        assert (status.status, status.stage, status.fields["attempts"]) == ("processing", "agent-router", "1")


async def test_a_delivery_is_one_line_in_the_log(world: World) -> None:
    async def answers(message: MessageText, ctx: StageContext) -> AgentReplied:
        add_to_line(ai_provider="openai", agent_ms=12.5, outcome="not the handler's to say")
        return AgentReplied.after(message, messages=[], agent_id="a")

    message = a_message(trace_headers={"x-correlation-id": "call-7"})
    with captured_log() as log:
        async with world.replica(answers):
            await world.send(message)
            await world.replies()
            await eventually(lambda: world.is_settled)
    (line,) = (line for line in log.lines if line.get("message_id") == message.message_id)
    assert {
        name for name in ("timestamp", "trace_id", "span_id", "worker_id", "duration_ms") if name not in line
    } == set()
    expected = {
        "level": "info",
        "event": "delivery_finished",
        "service": "tester",
        "correlation_id": "call-7",
        "stage": "agent-router",
        "queue": QUEUE,
        "attempt": 1,
        "outcome": "done",
        "event_name": "message.text",
        "emitted": "agent.replied",
        "message_type": "text",
        "user_number": "+55•••••0000",
        "ai_provider": "openai",
        "agent_ms": 12.5,
    }
    assert {name: line.get(name) for name in expected} == expected


async def test_the_log_says_why_a_delivery_was_not_done_and_keeps_quiet_about_routine_waits(world: World) -> None:
    world.agent.first = [RoutineWait("another comes first", delay=STEP), RateLimited("quota"), Refused("safety")]
    with captured_log() as log:
        async with world.replica():
            await world.send(a_message())
            await world.dead_letter()
            await eventually(lambda: world.is_settled)
    lines = [line for line in log.lines if line["event"] == "delivery_finished"]
    assert [(line["level"], line["outcome"], line["error_code"], line["attempt"]) for line in lines] == [
        ("info", "retried", "RATE_LIMITED", 1),
        ("warning", "dead_lettered", "REFUSED", 2),
    ]


def test_the_steps_stand_in_the_order_that_their_promises_need() -> None:
    assert [step.__name__ for step in STEPS] == [
        "trace",
        "measure",
        "settle",
        "classify",
        "wait_out",
        "read",
        "deduplicate",
        "limit_time",
    ]


async def test_an_operators_replay_is_done_again_and_a_redelivery_of_it_is_not(world: World) -> None:
    message = a_message()
    replayed = Outgoing(
        message.name, encode(message), message.message_id, message.name, message.timestamp, {"x-eai-replay": 7}
    )
    async with world.replica():
        await world.send(message)
        await world.replies()
        await world.broker.publish(replayed)
        await world.replies(2)
        await world.broker.publish(replayed)
        await world.replies(3)
    assert len(world.agent.asked) == 2
    replays = [orjson.loads(reply.body)["replay"] for reply in world.broker.contents(FORMATTER)]
    assert replays == [0, 7, 7]


async def test_a_stage_says_by_the_event_of_its_choice_that_it_gave_up(world: World) -> None:
    async def refuse(message: MessageAudio, ctx: StageContext) -> None:
        raise Refused("no")

    stop = asyncio.Event()
    stage = Stage("transcriber", (handler_for(MessageAudio, refuse),), failure=TranscriptionFailed)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(stage, world.parts, stop))
        await world.send(MessageAudio.after(a_message(), message="https://example.org/a.ogg"))
        await eventually(lambda: world.broker.contents("eai.transcriber.dlq"))
        stop.set()
    assert [message.event for message in world.broker.contents(QUEUE)] == ["transcription.failed"]


@dataclass
class FakeWorker:
    """Gives each delivery the next of its verdicts."""

    verdicts: list[Verdict]
    events: tuple[type[Event], ...] = (MessageText,)
    works: list[Work] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, runtime: Runtime, stop: asyncio.Event) -> AsyncIterator[Process]:
        async def process(work: Work) -> Verdict:
            self.works.append(work)
            work.event = decode_delivery(runtime, work.delivery)
            return self.verdicts.pop(0)

        yield process


async def test_a_stage_with_a_worker_of_its_own_settles_as_that_says(world: World) -> None:
    waits: list[Verdict] = [Postpone(Refused("later"), STEP), HandBack(), Defer(Deferred("not now", delay=STEP))]
    worker = FakeWorker([*waits, Failed(Refused("no"))])
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage(Stage("agent-router", worker=worker), world.parts, stop))
        await world.send(a_message())
        await eventually(lambda: not worker.verdicts and world.is_settled)
        stop.set()
    redeliveries = [work.delivery.redeliveries for work in worker.works]
    waited = [work.attempt.waited / STEP for work in worker.works]
    assert (redeliveries, waited) == ([0, 0, 1, 0], [0, 1, 1, 2])
    assert (world.broker.contents(DEAD), world.broker.contents(FORMATTER)) == ((), ())
