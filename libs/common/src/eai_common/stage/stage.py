"""A stage as a whole: its queue, its handlers, and the loop that consumes until it is told to stop, then drains."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from eai_common.broker import Broker, Consumer
from eai_common.clock import Clock
from eai_common.ids import Ids
from eai_common.retry import Backoff, RetryPolicy
from eai_common.settings.groups import BrokerSettings, ProcessSettings, TaskSettings, WorkerSettings
from eai_common.stage.delivery import Verdict, Work, read_attempt
from eai_common.stage.handler import EventHandler, ProgressLog
from eai_common.stage.ordering import EndObserver, UserOrdering
from eai_common.stage.reporting import StageReporter
from eai_common.stage.settling import Runtime
from eai_common.stage.steps import compose
from eai_common.store import Checkpoints, Redis, TaskStore
from eai_common.telemetry import Metrics, Tracing, get_logger

__all__ = ["Stage", "StageResources", "run_stage"]

log = get_logger("eai.stage")


@dataclass(frozen=True, slots=True)
class Stage:
    """One consumer: a name of `STAGE_BINDINGS`, its handlers, and where it differs from the settings.

    `parallel` is how many deliveries it handles at the same time. `progress_log` is where it writes its attempts, the
    task's status by default. `ordering` decides which message of a user goes next; `end_observer` learns which
    messages the stage gives up, and is only for a stage without ordering. `redis` is the client for its checkpoints
    and its progress, by default the process's.
    """

    name: str
    handlers: tuple[EventHandler, ...]
    retry: RetryPolicy | None = None
    parallel: int | None = None
    progress_log: ProgressLog | None = None
    ordering: UserOrdering | None = None
    end_observer: EndObserver | None = None
    redis: Redis | None = None


@dataclass(frozen=True, slots=True)
class StageResources:
    """What a stage runs on; several stages of one process may share it."""

    broker: Broker
    redis: Redis
    clock: Clock
    random: Random
    ids: Ids
    metrics: Metrics
    tracing: Tracing
    broker_settings: BrokerSettings
    worker_settings: WorkerSettings
    task_settings: TaskSettings
    process_settings: ProcessSettings


async def run_stage(stage: Stage, resources: StageResources, stop: asyncio.Event) -> None:
    """Consume the stage's queue until `stop`; then take no more, and give what is in flight its grace to finish.

    Raises KeyError if the topology does not know the stage.
    """
    runtime = _runtime(stage, resources)
    settings = resources.worker_settings
    parallel = stage.parallel or settings.max_parallel or resources.broker_settings.prefetch_count
    async with (
        resources.broker.consume(runtime.queue, prefetch=parallel) as consumer,
        runtime.checkpoints.renewing(),
    ):
        log.info("stage_started", stage=stage.name, queue=runtime.queue, parallel=parallel)
        await _handle_deliveries(runtime, consumer, stop, resources, parallel)
    log.info("stage_stopped", stage=stage.name)


def _runtime(stage: Stage, resources: StageResources) -> Runtime:
    worker, tasks, broker = resources.worker_settings, resources.task_settings, resources.broker_settings
    queue = broker.topology.queue_of(stage.name)
    redis = stage.redis or resources.redis
    return Runtime(
        stage=stage.name,
        queue=queue,
        handlers={handler.event: handler.handle for handler in stage.handlers},
        publisher=resources.broker,
        ladder=resources.broker.ladder,
        checkpoints=Checkpoints(
            redis,
            stage=stage.name,
            lease=worker.checkpoint_lease,
            ttl=tasks.checkpoint_ttl,
            clock=resources.clock,
        ),
        progress_log=stage.progress_log or TaskStore(redis, tasks),
        retry=stage.retry or Backoff(broker.max_retries, broker.retry_delay),
        timeout=worker.worker_timeout,
        max_redeliveries=worker.max_redeliveries,
        clock=resources.clock,
        random=resources.random.random,
        tracing=resources.tracing,
        reporter=StageReporter(resources.metrics, stage.name, queue),
        ordering=stage.ordering,
        end_observer=stage.end_observer,
    )


async def _handle_deliveries(
    runtime: Runtime, consumer: Consumer, stop: asyncio.Event, resources: StageResources, parallel: int
) -> None:
    """Start a task for each delivery until `stop`, then drain. A task that fails is our bug and ends the stage."""
    process = compose(runtime)
    in_flight: set[asyncio.Task[Verdict]] = set()

    def finish(task: asyncio.Task[Verdict]) -> None:
        in_flight.discard(task)
        runtime.reporter.busy_ratio.set(len(in_flight) / parallel)

    async with asyncio.TaskGroup() as group:
        async for delivery in consumer.until(stop):
            work = Work(delivery, read_attempt(delivery.headers), resources.ids.random_id())
            task = group.create_task(process(work), name=f"{delivery.queue}/{delivery.message_id}")
            in_flight.add(task)
            runtime.reporter.busy_ratio.set(len(in_flight) / parallel)
            task.add_done_callback(finish)
        await _drain(in_flight, resources.process_settings.shutdown_grace)


async def _drain(in_flight: set[asyncio.Task[Verdict]], grace: timedelta) -> None:
    if not in_flight:
        return
    log.info("stage_draining", in_flight=len(in_flight), grace_s=grace.total_seconds())
    _, late = await asyncio.wait(in_flight, timeout=grace.total_seconds())
    for task in late:
        task.cancel()  # unsettled, so the broker delivers it to another replica
