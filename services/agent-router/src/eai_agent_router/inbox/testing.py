"""A small gateway for tests of the agent router's inbox worker: its runtime, on a broker and a Redis in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from fakeredis import FakeServer

from eai_agent_router.handler import Answering, TurnContext
from eai_agent_router.inbox import InboxWorker, WorkerRules
from eai_agent_router.merging import text_of
from eai_common.broker import Outgoing
from eai_common.broker.memory import MemoryBroker
from eai_common.ids import Ids
from eai_common.messages import (
    AgentReplied,
    Event,
    HistoryUpdate,
    MessageAudio,
    MessageFailed,
    MessageText,
    MessageTranscribed,
    decode,
    encode,
)
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import Stage, StageResources, run_stage
from eai_common.store import Command, RedisClient, Reply, StoreUnavailable, open_memory_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock, eventually, run_ready
from eai_common.topology import Topology
from eai_common.turns.bodies import inbox_message
from eai_common.turns.state import Rules
from eai_common.turns.store import InboxStore

__all__ = [
    "FakeAgent",
    "LEASE",
    "PATIENT",
    "QUEUE",
    "RULES",
    "RUNGS",
    "USER",
    "WATCHFUL",
    "World",
    "open_world",
    "says",
    "spoke",
    "unheard",
    "words_of",
]

QUEUE = "eai.agent-router"
USER = "+5521999990000"
RUNGS = tuple(timedelta(seconds=s) for s in (0.1, 0.5, 1))
LEASE = timedelta(seconds=0.3)
PATIENT = WorkerRules(lease=LEASE)
WATCHFUL = replace(PATIENT, next_looks=(timedelta(seconds=0.1),) * 2, others_look=(timedelta(seconds=0.5),) * 2)
RULES = Rules(lease_ms=300)


@dataclass
class FakeAgent:
    """Answers each text when it may; fails a text as often as it was told to."""

    asked: list[str] = field(default_factory=list)
    repeated: list[bool] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    failures: dict[str, list[Exception]] = field(default_factory=dict)

    def hold(self, text: str) -> asyncio.Event:
        return self.held.setdefault(text, asyncio.Event())

    async def __call__(self, message: Event, ctx: TurnContext) -> AgentReplied:
        await ctx.before_asking()
        text = words_of(message)
        self.asked.append(text)
        self.repeated.append(ctx.is_repeated)
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


class MortalRedis(RedisClient):
    """The client of a process that may die."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.driver = redis.driver
        self.is_dead = False

    async def run(self, commands: Sequence[Command]) -> Sequence[Reply]:
        if self.is_dead:
            raise StoreUnavailable("the process has died")
        return await self._redis.run(commands)


@dataclass
class World:
    """One broker and one Redis, on which replicas of the agent router run."""

    broker: MemoryBroker
    redis: RedisClient
    server: FakeServer
    parts: StageResources
    rules: WorkerRules = PATIENT
    inbox_rules: Rules = RULES
    agent: FakeAgent = field(default_factory=FakeAgent)
    used: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def replica(self, agent: FakeAgent | None = None) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(run_stage(self.stage(agent or self.agent), self.parts, stop))
            try:
                yield
            finally:
                stop.set()

    async def killed(self, agent: FakeAgent, *, once: Callable[[], bool]) -> None:
        """A replica that dies as soon as the condition holds: nothing that it does then reaches Redis."""
        redis, self.redis = self.redis, MortalRedis(self.redis)
        dying = asyncio.create_task(run_stage(self.stage(agent), self.parts, asyncio.Event()))
        try:
            await eventually(once)
            self.redis.is_dead = True
        finally:
            self.redis = redis
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)

    @property
    def inboxes(self) -> InboxStore:
        return InboxStore(self.redis, self.inbox_rules, timedelta(hours=24))

    def stage(self, agent: Answering) -> Stage:
        answers: dict[type[Event], Answering] = {
            MessageText: agent,
            MessageTranscribed: agent,
            HistoryUpdate: agent,
        }
        return Stage("agent-router", worker=self.worker(answers))

    def worker(self, answers: Mapping[type[Event], Answering]) -> InboxWorker:
        return InboxWorker(self.inboxes, self.redis, answers, self.count, self.rules, self.parts.metrics)

    async def count(self, message: Event) -> None:
        self.used.append(message.message_id)

    async def accept(self, *messages: Event) -> None:
        """What ingress does with messages, in this order, before any of them reaches the router."""
        for message in messages:
            entry = inbox_message(message, mode=self.rules.mode)
            await self.inboxes.accept(message.user_number, entry)

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
            return not await self.redis.driver.hget(f"inbox:{{{USER}}}", "order")

        await eventually(is_empty, within_s=10)

    @property
    def is_settled(self) -> bool:
        return not self.broker.contents(QUEUE) and self.broker.unsettled(QUEUE) == 0 and self.broker.waiting == 0


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """All of it, as long as the context is open."""
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
        yield World(broker, redis, server, parts)


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


def unheard(message: MessageTranscribed) -> MessageAudio:
    return MessageAudio.after(message, message="https://example.org/a.ogg", transcript=None)


def words_of(message: Event) -> str:
    assert isinstance(message, MessageText | MessageTranscribed)
    return text_of(message)
