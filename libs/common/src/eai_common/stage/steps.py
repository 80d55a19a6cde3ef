"""What every delivery goes through around its handler, one step each; `RUNTIME` is their order, outermost first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog
from opentelemetry.trace import SpanKind

from eai_common.broker import BrokerUnavailable, DeadLetterReason, Outgoing, Publisher, SettlementLost, Unroutable
from eai_common.clock import Clock, Deadline
from eai_common.errors import Deferred, Permanent, Retriable, StageError
from eai_common.messages import EVENTS, Event, MessageFailed, decode, encode, salvage
from eai_common.retry import RetryPolicy
from eai_common.stage.context import StageContext
from eai_common.stage.journal import Journal
from eai_common.stage.work import (
    Defer,
    Done,
    GiveUp,
    On,
    Retry,
    Verdict,
    Work,
    headers_after_deferral,
    headers_after_failure,
)
from eai_common.store import Checkpoints, HeldElsewhere, Recorded, StoreUnavailable
from eai_common.telemetry import Metrics, Tracing, get_logger, note_error, trace_headers, trace_id

__all__ = ["RUNTIME", "PoisonMessage", "Runtime", "StageTimeout", "UnexpectedError", "handle"]

log = get_logger("eai.stage")
T = TypeVar("T")
Proceed = Callable[[Work], Awaitable[Verdict]]

_SHORTEST_DEFERRAL = timedelta(seconds=1)
_BROKER_RETRY = timedelta(seconds=1)
_USER_RETRY_AFTER = timedelta(seconds=300)


class StageTimeout(Retriable):
    """The handler was not done before the delivery's deadline."""

    error_code = "STAGE_TIMEOUT"


class UnexpectedError(Retriable):
    """The handler raised something that is no StageError: our bug, tried again in case it was the moment's."""

    error_code = "INTERNAL_ERROR"


class PoisonMessage(Permanent):
    """The delivery came back unsettled so often that it must be what kills its consumers."""

    error_code = "POISON_MESSAGE"


class Busy(Deferred):
    """Another delivery of the same message is being worked on."""

    error_code = "ALREADY_IN_WORK"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the steps need: one for each stage, made by wiring."""

    stage: str
    handlers: tuple[On, ...]
    publisher: Publisher
    checkpoints: Checkpoints
    journal: Journal
    retry: RetryPolicy
    timeout: timedelta
    max_redeliveries: int
    clock: Clock
    random: Callable[[], float]
    tracing: Tracing
    metrics: Metrics


Step = Callable[[Runtime, Work, Proceed], Awaitable[Verdict]]


async def handle(runtime: Runtime, work: Work) -> None:
    """Take one delivery through all steps. Nothing but a cancellation, or a bug of ours, comes out."""

    async def innermost(work: Work) -> Verdict:
        return Done(await _call_handler(runtime, work))

    proceed: Proceed = innermost
    for step in reversed(RUNTIME):
        proceed = _around(step, runtime, proceed)
    await proceed(work)


def _around(step: Step, runtime: Runtime, proceed: Proceed) -> Proceed:
    async def around(work: Work) -> Verdict:
        return await step(runtime, work, proceed)

    return around


async def measure(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Count the delivery, its outcome and its time."""
    runtime.metrics.delivered.labels(work.delivery.queue).inc()
    began = runtime.clock.monotonic()
    outcome = "handed_back"
    try:
        verdict = await proceed(work)
        outcome = _OUTCOMES[type(verdict)]
        return verdict
    finally:
        took_s = runtime.clock.monotonic() - began
        runtime.metrics.processing_duration.labels(work.event_name, runtime.stage).observe(took_s)
        message_type = work.event.message_type if work.event is not None else "unknown"
        runtime.metrics.processed.labels(message_type, runtime.stage, outcome).inc()


async def trace(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Continue the message's trace, and put its ids on every log line of this task."""
    with (
        runtime.tracing.span(f"{work.delivery.queue} process", carrier=work.delivery.headers, kind=SpanKind.CONSUMER),
        structlog.contextvars.bound_contextvars(
            stage=runtime.stage, message_id=work.message_id, trace_id=trace_id(), attempt=work.attempt.number
        ),
    ):
        return await proceed(work)


async def settle(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Turn the verdict into effects on the broker; afterwards the delivery is gone, or was lost to another consumer."""
    verdict = await proceed(work)
    try:
        return await _settled(runtime, work, verdict)
    except SettlementLost:
        # The connection died under the delivery. The broker gives it to a consumer again, where the record decides.
        log.info("settlement_lost", event_name=work.event_name)
        return verdict


async def classify(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Turn what the handler raised into what to do next."""
    try:
        return await proceed(work)
    except Deferred as error:
        return Defer(error)
    except Retriable as error:
        return _retry_or_give_up(runtime, work, error)
    except StageError as error:
        return _failed(runtime, GiveUp(error))
    except Exception as error:  # whatever a handler raises, its delivery must be settled
        log.exception("handler_failed_unexpectedly")
        unexpected = UnexpectedError(f"{type(error).__name__} in {runtime.stage}")
        unexpected.__cause__ = error
        return _retry_or_give_up(runtime, work, unexpected)


async def read(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Decode the body. Raises InvalidMessage, or PoisonMessage for a delivery that came back too often."""
    delivery = work.delivery
    work.event = decode(
        delivery.body,
        event_name=delivery.event or delivery.routing_key,
        accepts=[on.event for on in runtime.handlers],
        fallback_time=delivery.timestamp or runtime.clock.now(),
    )
    if delivery.redeliveries > runtime.max_redeliveries:
        raise PoisonMessage(f"came back unsettled {delivery.redeliveries} times")
    return await proceed(work)


async def deduplicate(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Do the work once for each message and stage; a redelivery gets the record. Raises StoreUnavailable, Busy."""
    message_id = _event(work).message_id
    claim = await runtime.checkpoints.claim(message_id, work.owner)
    if isinstance(claim, Recorded):
        log.info("delivery_found_done")
        return Done(_event_recorded(claim.outcome))
    if isinstance(claim, HeldElsewhere):
        raise Busy("another delivery of this message is in work", delay=max(claim.remaining, _SHORTEST_DEFERRAL))
    try:
        await _best_effort(
            runtime.journal.note_started(
                message_id, stage=runtime.stage, at=runtime.clock.now(), attempt=work.attempt.number
            )
        )
        verdict = await proceed(work)
    except BaseException:
        # Also when cancelled: the replica that gets the delivery next should not have to wait for the lease to end.
        await _unbroken(_best_effort(runtime.checkpoints.release(message_id, work.owner)))
        raise
    if isinstance(verdict, Done):
        # Unbroken: a reply that was paid for must not be lost to a shutdown. Without Redis it is emitted all the same.
        await _unbroken(_best_effort(runtime.checkpoints.record(message_id, _recordable(verdict.emit))))
    return verdict


async def limit_time(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """End the handler at the delivery's deadline. Raises StageTimeout."""
    try:
        async with asyncio.timeout(runtime.timeout.total_seconds()) as limit:
            return await proceed(work)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StageTimeout(f"not done within {runtime.timeout.total_seconds():g} s") from error


RUNTIME: tuple[Step, ...] = (measure, trace, settle, classify, read, deduplicate, limit_time)
"""Settling is outside of the time limit, which could cut an ack short, and inside the trace, which it emits into."""

_OUTCOMES: dict[type[Verdict], str] = {
    Done: "done",
    Retry: "retried",
    Defer: "deferred",
    GiveUp: "dead_lettered",
}


async def _call_handler(runtime: Runtime, work: Work) -> Event | None:
    event = _event(work)
    on = next(on for on in runtime.handlers if type(event) is on.event)
    context = StageContext(
        deadline=Deadline.after(runtime.timeout, runtime.clock),
        attempt=work.attempt,
        clock=runtime.clock,
        is_replayed=work.delivery.redeliveries > 0,
    )
    return await on.handle(event, context)


def _retry_or_give_up(runtime: Runtime, work: Work, error: Retriable) -> Verdict:
    number = work.attempt.number
    if not runtime.retry.allows_another(number):
        return _failed(runtime, GiveUp(error))
    delay = runtime.retry.delay(number, retry_after=error.retry_after, random=runtime.random)
    return _failed(runtime, Retry(error, delay))


def _failed(runtime: Runtime, verdict: Retry | GiveUp) -> Verdict:
    note_error(verdict.error)
    runtime.metrics.processing_errors.labels(runtime.stage, verdict.error.error_code).inc()
    return verdict


async def _settled(runtime: Runtime, work: Work, verdict: Verdict) -> Verdict:
    match verdict:
        case Done(emit):
            return await _settle_done(runtime, work, emit)
        case Retry(error, delay):
            await _settle_retry(runtime, work, error, delay)
        case Defer(error):
            await _settle_deferral(runtime, work, error)
        case GiveUp(error):
            await _settle_dead_letter(runtime, work, error)
    return verdict


async def _settle_done(runtime: Runtime, work: Work, emit: Event | None) -> Verdict:
    if emit is not None:
        try:
            # Confirm before ack: the other way round, a crash here would lose what follows.
            await _until_confirmed(runtime, lambda: _publish(runtime, emit))
        except Unroutable as error:
            await _settle_dead_letter(runtime, work, error)
            return _failed(runtime, GiveUp(error))
    await work.delivery.ack()
    log.info("delivery_done", event_name=work.event_name, emitted=emit.name if emit is not None else None)
    return Done(emit)


async def _settle_retry(runtime: Runtime, work: Work, error: StageError, delay: timedelta) -> None:
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=delay)
    await _until_confirmed(runtime, lambda: work.delivery.retry_after(delay, headers))
    log.info("delivery_retried", delay_s=round(delay.total_seconds(), 3), error_code=error.error_code, error=str(error))
    await _note_error(runtime, work, error, f"next try in {delay.total_seconds():.0f} s")


async def _settle_deferral(runtime: Runtime, work: Work, error: Deferred) -> None:
    headers = headers_after_deferral(work, error.delay)
    await _until_confirmed(runtime, lambda: work.delivery.retry_after(error.delay, headers))
    log.info("delivery_deferred", delay_s=error.delay.total_seconds(), error_code=error.error_code, error=str(error))


async def _settle_dead_letter(runtime: Runtime, work: Work, error: StageError) -> None:
    failure = _failure(runtime, work, error)
    if failure is not None:
        await _until_confirmed(runtime, lambda: _publish(runtime, failure))
    reason = DeadLetterReason(error.error_code, str(error)[:1000], runtime.stage)
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=timedelta())
    await _until_confirmed(runtime, lambda: work.delivery.dead_letter(reason, headers))
    log.warning(
        "delivery_dead_lettered",
        event_name=work.event_name,
        error_code=error.error_code,
        error=str(error),
        user_told=failure is not None,
    )
    await _note_error(runtime, work, error, "given up")


def _failure(runtime: Runtime, work: Work, error: StageError) -> MessageFailed | None:
    """What tells the user; None when the task's end was decided already, or nobody can say whose message it was."""
    accepted = [on.event for on in runtime.handlers]
    event = work.event
    if event is None and any(kind.fails_task for kind in accepted):
        event = salvage(work.delivery.body)
    if event is None or not event.fails_task:
        return None
    retry_after_s = None
    if isinstance(error, Retriable):
        retry_after_s = round((error.retry_after or _USER_RETRY_AFTER).total_seconds())
    return MessageFailed.after(
        event,
        error_code=error.error_code,
        error=str(error)[:1000],
        failed_stage=runtime.stage,
        retry_after_s=retry_after_s,
    )


async def _publish(runtime: Runtime, event: Event) -> None:
    await runtime.publisher.publish(
        Outgoing(
            routing_key=event.name,
            body=encode(event),
            message_id=event.message_id,
            event=event.name,
            timestamp=runtime.clock.now(),
            headers={"x-eai-schema": event.schema_version, **trace_headers()},
        )
    )
    runtime.metrics.published.labels(event.name).inc()


async def _until_confirmed(runtime: Runtime, publish: Callable[[], Awaitable[None]]) -> None:
    """Try until the broker has it: there is nowhere else to put the message, and unsettled it comes again anyway."""
    while True:
        try:
            return await publish()
        except BrokerUnavailable as error:
            log.warning("publish_not_confirmed", error=str(error))
            await runtime.clock.sleep(_BROKER_RETRY)


async def _note_error(runtime: Runtime, work: Work, error: StageError, then: str) -> None:
    if work.event is not None:
        await _best_effort(
            runtime.journal.note_error(
                work.event.message_id,
                stage=runtime.stage,
                at=runtime.clock.now(),
                error_code=error.error_code,
                then=then,
            )
        )


async def _best_effort(effect: Awaitable[None]) -> None:
    try:
        await effect
    except StoreUnavailable as error:
        log.warning("store_unavailable", error=str(error))


async def _unbroken(effect: Coroutine[None, None, T]) -> T:
    """Run to the end even when cancelled, and let the cancellation go on afterwards."""
    task = asyncio.ensure_future(effect)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _event(work: Work) -> Event:
    if work.event is None:
        raise AssertionError("`read` comes before the steps that need the event")
    return work.event


def _recordable(emit: Event | None) -> bytes:
    return b"" if emit is None else emit.name.encode() + b"\n" + encode(emit)


def _event_recorded(outcome: bytes) -> Event | None:
    if not outcome:
        return None
    name, _, body = outcome.partition(b"\n")
    kind = EVENTS[name.decode()]
    return decode(body, event_name=kind.name, accepts=[kind], fallback_time=None)
