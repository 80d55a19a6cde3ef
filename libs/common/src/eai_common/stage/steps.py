"""Runs a stage: takes each delivery through the steps around its handler. `STEPS` is their order, outermost first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from opentelemetry.trace import SpanKind

from eai_common.broker import Consumer, Delivery, SettlementLost
from eai_common.clock import Deadline
from eai_common.errors import Deferred, Permanent, Retriable, StageError
from eai_common.messages import Event, decode
from eai_common.stage.delivery import (
    Defer,
    Done,
    GiveUp,
    Process,
    Retry,
    RoutineWait,
    StillWaiting,
    Verdict,
    Work,
    read_attempt,
    read_wait_left,
    with_journey,
)
from eai_common.stage.handler import StageContext
from eai_common.stage.runtime import Runtime, Stage, StageResources, run_best_effort, run_shielded
from eai_common.stage.settling import carry_out, decode_outcome, encode_outcome, record_failure
from eai_common.store import Acquired, Completed, Locked
from eai_common.telemetry import CORRELATION_ID, collect_line, get_logger, log_context, trace_ids

__all__ = [
    "STEPS",
    "WORKER_STEPS",
    "PoisonMessage",
    "StageTimeout",
    "UnexpectedError",
    "decode_delivery",
    "run_stage",
]

log = get_logger("eai.stage")
Step = Callable[[Runtime, Process, Work], Coroutine[None, None, Verdict]]

_SHORTEST_DEFERRAL = timedelta(seconds=1)


class StageTimeout(Retriable):
    """The handler was not done before the delivery's deadline."""

    error_code = "STAGE_TIMEOUT"


class UnexpectedError(Retriable):
    """The handler raised something other than a StageError: our bug, retried in case it was a passing one."""

    error_code = "INTERNAL_ERROR"


class PoisonMessage(Permanent):
    """The delivery came back unsettled so often that it probably kills its consumers."""

    error_code = "POISON_MESSAGE"


class AlreadyInWork(RoutineWait):
    """Another delivery of the same message is being worked on."""

    error_code = "ALREADY_IN_WORK"


async def run_stage(stage: Stage, resources: StageResources, stop: asyncio.Event) -> None:
    """Consume the stage's queue until `stop`; then take no more, and give what is in flight its grace to finish.

    Raises KeyError if the topology does not know the stage.
    """
    runtime = Runtime(stage, resources)
    async with (
        runtime.broker.consume(runtime.queue, prefetch=runtime.parallel) as consumer,
        runtime.checkpoints.renewing(),
        _open_process(runtime, stop) as process,
    ):
        log.info("stage_started", stage=stage.name, queue=runtime.queue, parallel=runtime.parallel)
        await _handle_deliveries(runtime, process, consumer, stop)
    log.info("stage_stopped", stage=stage.name)


async def _handle_deliveries(runtime: Runtime, process: Process, consumer: Consumer, stop: asyncio.Event) -> None:
    """Start a task for each delivery until `stop`, then drain. A task that fails is our bug and ends the stage."""
    in_flight: set[asyncio.Task[Verdict]] = set()

    def finish(task: asyncio.Task[Verdict]) -> None:
        in_flight.discard(task)
        runtime.reporter.busy_ratio.set(len(in_flight) / runtime.parallel)

    async with asyncio.TaskGroup() as group:
        async for delivery in consumer.until(stop):
            work = Work(delivery, read_attempt(delivery.headers), runtime.new_id())
            task = group.create_task(process(work), name=f"{delivery.queue}/{delivery.message_id}")
            in_flight.add(task)
            runtime.reporter.busy_ratio.set(len(in_flight) / runtime.parallel)
            task.add_done_callback(finish)
        await _drain(in_flight, runtime.grace)


async def _drain(in_flight: set[asyncio.Task[Verdict]], grace: timedelta) -> None:
    if not in_flight:
        return
    log.info("stage_draining", in_flight=len(in_flight), grace_s=grace.total_seconds())
    _, late = await asyncio.wait(in_flight, timeout=grace.total_seconds())
    for task in late:
        task.cancel()  # unsettled, so the broker delivers it to another replica


@asynccontextmanager
async def _open_process(runtime: Runtime, stop: asyncio.Event) -> AsyncIterator[Process]:
    """The steps of a stage around its handlers, or its worker, as one function.

    Nothing but a cancellation, or our bug, comes out of it.
    """
    if runtime.worker is None:
        yield _compose(runtime, STEPS, partial(_call_handler, runtime))
        return
    async with runtime.worker.open(runtime, stop) as work_on:
        yield _compose(runtime, WORKER_STEPS, work_on)


def _compose(runtime: Runtime, steps: Sequence[Step], innermost: Process) -> Process:
    process = innermost
    for step in reversed(steps):
        process = partial(step, runtime, process)
    return process


async def trace(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Continue the message's trace, and bind the fields that every log line of this task has."""
    headers = work.delivery.headers
    with (
        runtime.tracing.span(f"{runtime.queue} process", carrier=headers, kind=SpanKind.CONSUMER),
        log_context(
            stage=runtime.stage,
            queue=runtime.queue,
            message_id=work.message_id,
            attempt=work.attempt.number,
            correlation_id=headers.get(CORRELATION_ID),
            **trace_ids(),
        ),
    ):
        return await proceed(work)


async def measure(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Count and time the delivery, and write its one line in the log."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    verdict: Verdict | None = None
    runtime.reporter.delivered.inc()
    with collect_line() as line:
        try:
            return (verdict := await proceed(work))
        finally:
            runtime.reporter.report(work, verdict, line, took_s=loop.time() - began_s)


async def settle(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Turn the verdict into effects on the broker; afterwards the delivery is settled, or another consumer has it."""
    verdict = await proceed(work)
    try:
        return await carry_out(runtime, work, verdict)
    except SettlementLost:
        # The connection died under the delivery. The broker delivers it again, and then the record decides.
        log.info("settlement_lost", event_name=work.event_name)
        return verdict


async def classify(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Turn what the handler raised into what to do next."""
    try:
        return await proceed(work)
    except Deferred as error:
        return Defer(error)
    except Retriable as error:
        return _retry_or_give_up(runtime, work, error)
    except StageError as error:
        return record_failure(runtime, GiveUp(error))
    except Exception as error:  # whatever a handler raises, its delivery must be settled
        log.exception("handler_failed_unexpectedly")
        unexpected = UnexpectedError(f"{type(error).__name__} in {runtime.stage}")
        unexpected.__cause__ = error
        return _retry_or_give_up(runtime, work, unexpected)


async def wait_out(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Send on a delivery that is between two hops of its wait, before anything else looks at it."""
    left = read_wait_left(work.delivery.headers)
    return Defer(StillWaiting("between two hops", delay=left)) if left else await proceed(work)


async def read(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Decode the body. Raises InvalidMessage, or PoisonMessage for a delivery that came back too often."""
    work.event = decode_delivery(runtime, work.delivery)
    if work.delivery.redeliveries > runtime.max_redeliveries:
        raise PoisonMessage(f"came back unsettled {work.delivery.redeliveries} times")
    return await proceed(work)


def decode_delivery(runtime: Runtime, delivery: Delivery) -> Event:
    """The event in a delivery's body, with what its headers say of it. Raises InvalidMessage."""
    event = decode(
        delivery.body,
        event_name=delivery.event or delivery.routing_key,
        accepts=runtime.accepts,
        fallback_time=delivery.timestamp or runtime.clock.now(),
    )
    return with_journey(event, delivery.headers)


async def deduplicate(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """Do the work once for each message and stage; a redelivery gets the record.

    Raises StoreUnavailable, and AlreadyInWork while another delivery of the message has the lease.
    """
    message_id = _run_of(work.decoded)
    match await runtime.checkpoints.claim(message_id, work.owner):
        case Completed(outcome):
            work.is_repeated = True
            return Done(decode_outcome(outcome))
        case Acquired():
            return await _work_once(runtime, proceed, work, message_id)
        case Locked(remaining):
            raise AlreadyInWork("another delivery of this message is in work", delay=max(remaining, _SHORTEST_DEFERRAL))


async def limit_time(runtime: Runtime, proceed: Process, work: Work) -> Verdict:
    """End the handler at the delivery's deadline. Raises StageTimeout."""
    timeout_s = runtime.timeout.total_seconds()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await proceed(work)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StageTimeout(f"not done within {timeout_s:g} s") from error


STEPS: tuple[Step, ...] = (trace, measure, settle, classify, wait_out, read, deduplicate, limit_time)
"""Settling is outside of the time limit, which could cut an ack short, and inside the trace, which it emits into."""

WORKER_STEPS = STEPS[: STEPS.index(read)]
"""The steps around a worker."""


async def _call_handler(runtime: Runtime, work: Work) -> Verdict:
    event = work.decoded
    context = StageContext(Deadline.after(runtime.timeout), work.attempt, runtime.clock)
    return Done(await runtime.handlers[type(event)](event, context))


def _run_of(event: Event) -> str:
    """What the checkpoint is of: an operator's replay is to be done again."""
    return f"{event.message_id}/{event.replay}" if event.replay else event.message_id


async def _work_once(runtime: Runtime, proceed: Process, work: Work, message_id: str) -> Verdict:
    started = runtime.progress_log.note_started(
        work.decoded.message_id, stage=runtime.stage, at=runtime.clock.now(), attempt=work.attempt.number
    )
    try:
        await run_best_effort(started)
        verdict = await proceed(work)
    except BaseException:
        # Also when cancelled: the replica that gets the delivery next should not have to wait for the lease to end.
        await run_shielded(run_best_effort(runtime.checkpoints.release(message_id, work.owner)))
        raise
    if isinstance(verdict, Done):
        # Shielded: a shutdown must not lose a reply that was paid for. Without Redis it is emitted all the same.
        outcome = encode_outcome(verdict.emit)
        await run_shielded(run_best_effort(runtime.checkpoints.record(message_id, outcome)))
    return verdict


def _retry_or_give_up(runtime: Runtime, work: Work, error: Retriable) -> Verdict:
    number = work.attempt.number
    if not runtime.retry.allows_another(number):
        return record_failure(runtime, GiveUp(error))
    delay = runtime.retry.delay(number, retry_after=error.retry_after, random=runtime.random)
    return record_failure(runtime, Retry(error, delay))
