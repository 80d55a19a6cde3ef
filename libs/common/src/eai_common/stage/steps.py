"""What every delivery goes through around its handler, one step each; `RUNTIME` is their order, outermost first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from opentelemetry.trace import SpanKind

from eai_common.broker import SettlementLost
from eai_common.clock import Deadline
from eai_common.errors import Deferred, Permanent, Retriable, StageError
from eai_common.messages import Event, decode
from eai_common.stage.context import StageContext
from eai_common.stage.ending import recordable, recorded
from eai_common.stage.runtime import Runtime, best_effort, unbroken
from eai_common.stage.settling import failed, settled
from eai_common.stage.turns import take_turn
from eai_common.stage.waiting import StillWaiting, wait_left
from eai_common.stage.work import Defer, Done, GiveUp, Retry, Verdict, Work
from eai_common.store import GivenUp, HeldElsewhere, Mine, Recorded
from eai_common.telemetry import CORRELATION_ID, get_logger, log_context, trace_ids

__all__ = ["RUNTIME", "PoisonMessage", "StageTimeout", "UnexpectedError", "handle"]

log = get_logger("eai.stage")
Proceed = Callable[[Work], Awaitable[Verdict]]

_SHORTEST_DEFERRAL = timedelta(seconds=1)


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
    began = asyncio.get_running_loop().time()
    outcome = "handed_back"
    try:
        verdict = await proceed(work)
        outcome = _OUTCOMES[type(verdict)]
        return verdict
    finally:
        took_s = asyncio.get_running_loop().time() - began
        runtime.metrics.processing_duration.labels(work.event_name, runtime.stage).observe(took_s)
        message_type = work.event.message_type if work.event is not None else "unknown"
        runtime.metrics.processed.labels(message_type, runtime.stage, outcome).inc()


async def trace(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Continue the message's trace, and put its ids on every log line of this task."""
    with (
        runtime.tracing.span(f"{work.delivery.queue} process", carrier=work.delivery.headers, kind=SpanKind.CONSUMER),
        log_context(
            stage=runtime.stage,
            queue=work.delivery.queue,
            message_id=work.message_id,
            attempt=work.attempt.number,
            correlation_id=work.delivery.headers.get(CORRELATION_ID),
            **trace_ids(),
        ),
    ):
        return await proceed(work)


async def settle(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Turn the verdict into effects on the broker; afterwards the delivery is gone, or was lost to another consumer."""
    verdict = await proceed(work)
    try:
        return await settled(runtime, work, verdict)
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
        return failed(runtime, GiveUp(error))
    except Exception as error:  # whatever a handler raises, its delivery must be settled
        log.exception("handler_failed_unexpectedly")
        unexpected = UnexpectedError(f"{type(error).__name__} in {runtime.stage}")
        unexpected.__cause__ = error
        return _retry_or_give_up(runtime, work, unexpected)


async def wait_out(runtime: Runtime, work: Work, proceed: Proceed) -> Verdict:
    """Send on a delivery that is between two hops of its wait, before anything of it is looked at."""
    left = wait_left(work.delivery.headers)
    return Defer(StillWaiting("between two hops", delay=left)) if left else await proceed(work)


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
    message_id = work.lead_id or _event(work).message_id
    claim = await runtime.checkpoints.claim(message_id, work.owner)
    if isinstance(claim, GivenUp) and not work.is_unworked_copy:
        claim = await runtime.checkpoints.claim_again(message_id, work.owner)
    if isinstance(claim, Recorded | GivenUp) and work.is_unworked_copy:
        # The copy that was worked on emits it: if its replica died before that, it comes again itself.
        work.is_spare = True
        return Done(None)
    if isinstance(claim, Recorded):
        log.info("delivery_found_done")
        return Done(recorded(claim.outcome))
    if not isinstance(claim, Mine):
        remaining = claim.remaining if isinstance(claim, HeldElsewhere) else timedelta()
        raise Busy("another delivery of this message is in work", delay=max(remaining, _SHORTEST_DEFERRAL))
    try:
        await best_effort(
            runtime.journal.note_started(
                _event(work).message_id, stage=runtime.stage, at=runtime.clock.now(), attempt=work.attempt.number
            )
        )
        verdict = await proceed(work)
    except BaseException:
        # Also when cancelled: the replica that gets the delivery next should not have to wait for the lease to end.
        await unbroken(best_effort(runtime.checkpoints.release(message_id, work.owner)))
        raise
    if isinstance(verdict, Done):
        # Unbroken: a reply that was paid for must not be lost to a shutdown. Without Redis it is emitted all the same.
        await unbroken(best_effort(runtime.checkpoints.record(message_id, recordable(verdict.emit))))
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


RUNTIME: tuple[Step, ...] = (measure, trace, settle, classify, wait_out, read, take_turn, deduplicate, limit_time)
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
        deadline=Deadline.after(runtime.timeout),
        attempt=work.attempt,
        clock=runtime.clock,
        is_replayed=work.delivery.redeliveries > 0,
    )
    return await on.handle(event, context)


def _retry_or_give_up(runtime: Runtime, work: Work, error: Retriable) -> Verdict:
    number = work.attempt.number
    if not runtime.retry.allows_another(number):
        return failed(runtime, GiveUp(error))
    delay = runtime.retry.delay(number, retry_after=error.retry_after, random=runtime.random)
    return failed(runtime, Retry(error, delay))


def _event(work: Work) -> Event:
    if work.event is None:
        raise AssertionError("`read` comes before the steps that need the event")
    return work.event
