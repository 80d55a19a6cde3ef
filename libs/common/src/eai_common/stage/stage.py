"""A stage as a whole: its queue, its handlers, and the loop that consumes until it is told to stop, then drains."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from eai_common.broker import Broker, Consumer, Delivery
from eai_common.clock import Clock
from eai_common.ids import Ids
from eai_common.retry import Backoff, RetryPolicy
from eai_common.settings.groups import BrokerSettings, ProcessSettings, TaskSettings, WorkerSettings
from eai_common.stage.journal import Journal
from eai_common.stage.runtime import Runtime
from eai_common.stage.steps import handle
from eai_common.stage.turns import Ends, Turns
from eai_common.stage.work import On, Work, attempt_of
from eai_common.store import Checkpoints, Redis, TaskStore
from eai_common.telemetry import Metrics, Tracing, get_logger

__all__ = ["Stage", "StageParts", "run_stage"]

log = get_logger("eai.stage")


@dataclass(frozen=True, slots=True)
class Stage:
    """One consumer: a name of `STAGE_BINDINGS`, who handles what, and what is otherwise than the settings say.

    `parallel` is how many deliveries it handles side by side, `journal` where it notes its tries. `turns` decides whose
    turn it is; `ends` is told when the stage gives a message up, and is only for a stage without turns. `redis` is the
    client for its checkpoints and notes, where it is another one than the process'.
    """

    name: str
    handlers: tuple[On, ...]
    retry: RetryPolicy | None = None
    parallel: int | None = None
    journal: Journal | None = None
    turns: Turns | None = None
    ends: Ends | None = None
    redis: Redis | None = None


@dataclass(frozen=True, slots=True)
class StageParts:
    """What a stage stands on; the same parts may serve several stages of one process."""

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


async def run_stage(stage: Stage, parts: StageParts, stop: asyncio.Event) -> None:
    """Consume the stage's queue until `stop`; then take no more, give what is in flight its grace, leave the rest."""
    queue = parts.broker_settings.topology.queue_of(stage.name)
    parallel = stage.parallel or parts.worker_settings.max_parallel or parts.broker_settings.prefetch_count
    redis = stage.redis or parts.redis
    checkpoints = Checkpoints(
        redis,
        stage=stage.name,
        lease=parts.worker_settings.checkpoint_lease,
        ttl=parts.task_settings.checkpoint_ttl,
        clock=parts.clock,
    )
    runtime = Runtime(
        stage=stage.name,
        handlers=stage.handlers,
        publisher=parts.broker,
        ladder=parts.broker.ladder,
        checkpoints=checkpoints,
        journal=stage.journal or TaskStore(redis, parts.task_settings),
        retry=stage.retry or Backoff(parts.broker_settings.max_retries, parts.broker_settings.retry_delay),
        timeout=parts.worker_settings.worker_timeout,
        max_redeliveries=parts.worker_settings.max_redeliveries,
        clock=parts.clock,
        random=parts.random.random,
        tracing=parts.tracing,
        metrics=parts.metrics,
        turns=stage.turns,
        ends=stage.ends,
    )
    async with parts.broker.consume(queue, prefetch=parallel) as consumer, checkpoints.renewing():
        log.info("stage_started", stage=stage.name, queue=queue, parallel=parallel)
        await _consume(runtime, consumer, stop, parts, parallel)
    log.info("stage_stopped", stage=stage.name)


async def _consume(runtime: Runtime, consumer: Consumer, stop: asyncio.Event, parts: StageParts, parallel: int) -> None:
    in_flight: set[asyncio.Task[None]] = set()
    busy = parts.metrics.busy_ratio.labels(runtime.stage)

    def done(task: asyncio.Task[None]) -> None:
        in_flight.discard(task)
        busy.set(len(in_flight) / parallel)

    async with asyncio.TaskGroup() as group:  # a delivery's errors are settled; one that escapes is our bug and ends us
        async for delivery in consumer.until(stop):
            work = Work(delivery, attempt_of(delivery.headers), parts.ids.random_id())
            task = group.create_task(handle(runtime, work), name=_name(delivery))
            in_flight.add(task)
            busy.set(len(in_flight) / parallel)
            task.add_done_callback(done)
        await _drain(in_flight, parts.process_settings.shutdown_grace)


async def _drain(in_flight: set[asyncio.Task[None]], grace: timedelta) -> None:
    if not in_flight:
        return
    log.info("stage_draining", in_flight=len(in_flight), grace_s=grace.total_seconds())
    _, late = await asyncio.wait(in_flight, timeout=grace.total_seconds())
    for task in late:
        task.cancel()  # unsettled, so the broker gives it to another replica


def _name(delivery: Delivery) -> str:
    return f"{delivery.queue}/{delivery.message_id}"
