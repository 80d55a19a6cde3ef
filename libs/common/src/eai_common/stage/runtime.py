"""What a stage is declared as, and what the steps around its handlers run on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar

from eai_common.broker import Broker
from eai_common.clock import Clock
from eai_common.ids import Ids
from eai_common.messages import Event, MessageFailed
from eai_common.retry import Backoff, RetryPolicy
from eai_common.settings.groups import BrokerSettings, ProcessSettings, TaskSettings, WorkerSettings
from eai_common.stage.delivery import Process
from eai_common.stage.handler import EventHandler, ProgressLog
from eai_common.stage.reporting import StageReporter
from eai_common.store import Checkpoints, RedisClient, StoreUnavailable, TaskStore
from eai_common.telemetry import Metrics, Tracing, get_logger

__all__ = ["Runtime", "Stage", "StageResources", "Worker", "run_best_effort", "run_shielded"]

log = get_logger("eai.stage")
T = TypeVar("T")


class Worker(Protocol):
    """Takes a stage's deliveries to their verdicts itself. The steps that decode, deduplicate and limit are not run."""

    @property
    def events(self) -> tuple[type[Event], ...]:
        """What it takes."""

    def open(self, runtime: Runtime, stop: asyncio.Event) -> AbstractAsyncContextManager[Process]:
        """The function that takes deliveries, as long as the context is open. The drain begins when `stop` is set."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One consumer: a name of the registry, its handlers or its worker, and where it differs from the settings.

    `failure` is the event that says that the stage has given up a message. `parallel` is how many deliveries it takes
    at the same time. `progress_log` is where it writes its attempts, the task's status by default. `redis` is the
    client for its checkpoints and its progress, by default the process's.
    """

    name: str
    handlers: tuple[EventHandler, ...] = ()
    worker: Worker | None = None
    failure: type[MessageFailed] = MessageFailed
    retry: RetryPolicy | None = None
    parallel: int | None = None
    progress_log: ProgressLog | None = None
    redis: RedisClient | None = None


@dataclass(frozen=True, slots=True)
class StageResources:
    """What a stage runs on; several stages of one process may share it."""

    broker: Broker
    redis: RedisClient
    clock: Clock
    random: Random
    ids: Ids
    metrics: Metrics
    tracing: Tracing
    broker_settings: BrokerSettings
    worker_settings: WorkerSettings
    task_settings: TaskSettings
    process_settings: ProcessSettings


class Runtime:
    """What the steps need; one for each running stage. Raises KeyError if the topology does not know the stage."""

    def __init__(self, stage: Stage, resources: StageResources) -> None:
        broker, worker, tasks = resources.broker_settings, resources.worker_settings, resources.task_settings
        redis, clock = stage.redis or resources.redis, resources.clock
        self.stage = stage.name
        self.queue = broker.topology.queue_of(stage.name)
        self.handlers = {handler.event: handler.handle for handler in stage.handlers}
        self.worker = stage.worker
        self.accepts = tuple(self.handlers) if stage.worker is None else stage.worker.events
        self.failure = stage.failure
        self.parallel = stage.parallel or worker.max_parallel or broker.prefetch_count
        self.broker = resources.broker
        self.checkpoints = Checkpoints(redis, stage=stage.name, lease=worker.checkpoint_lease, ttl=tasks.checkpoint_ttl)
        self.progress_log: ProgressLog = stage.progress_log or TaskStore(redis, tasks)
        self.retry = stage.retry or Backoff(broker.max_retries, broker.retry_delay)
        self.timeout = worker.worker_timeout
        self.max_redeliveries = worker.max_redeliveries
        self.clock = clock
        self.random = resources.random.random
        self.new_id = resources.ids.random_id
        self.grace = resources.process_settings.shutdown_grace
        self.tracing = resources.tracing
        self.reporter = StageReporter(resources.metrics, stage.name, self.queue)


async def run_best_effort(effect: Awaitable[None]) -> None:
    """Await an effect in Redis that the message can do without."""
    try:
        await effect
    except StoreUnavailable as error:
        log.warning("store_unavailable", error=str(error))


async def run_shielded(effect: Coroutine[None, None, T]) -> T:
    """Run to the end even when cancelled; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(effect)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
