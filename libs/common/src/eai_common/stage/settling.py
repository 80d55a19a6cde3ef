"""Turns a verdict into effects on the broker, each confirmed before the delivery is given away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from eai_common.broker import BrokerUnavailable, DeadLetterReason, Headers, Outgoing, Unroutable
from eai_common.errors import Deferred, Retriable, StageError
from eai_common.messages import Event, MessageFailed, encode, salvage
from eai_common.stage.ending import end_done, end_given_up, recordable
from eai_common.stage.runtime import Runtime, best_effort
from eai_common.stage.waiting import StillWaiting, next_hop, with_wait_left
from eai_common.stage.work import (
    Defer,
    Done,
    GiveUp,
    Retry,
    Verdict,
    Work,
    as_first_copy,
    headers_after_deferral,
    headers_after_failure,
)
from eai_common.store import FailedTry
from eai_common.telemetry import get_logger, note_error, redacted, trace_headers

__all__ = ["failed", "settled"]

log = get_logger("eai.stage")

_BROKER_RETRY = timedelta(seconds=1)
_USER_RETRY_AFTER = timedelta(seconds=300)


async def settled(runtime: Runtime, work: Work, verdict: Verdict) -> Verdict:
    """Carry the verdict out; gives the one that came of it. Raises SettlementLost."""
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


def failed(runtime: Runtime, verdict: Retry | GiveUp) -> Verdict:
    """The verdict, noted as the failure that it is."""
    note_error(verdict.error)
    runtime.metrics.processing_errors.labels(runtime.stage, verdict.error.error_code).inc()
    return verdict


async def _settle_done(runtime: Runtime, work: Work, emit: Event | None) -> Verdict:
    if work.is_spare:
        await work.delivery.ack()
        log.info("copy_dropped", event_name=work.event_name)
        return Done(None)
    try:
        # Confirm before ack: the other way round, a crash here would lose what follows.
        await _emit_all(runtime, work, emit)
    except Unroutable as error:
        await _settle_dead_letter(runtime, work, error)
        return failed(runtime, GiveUp(error))
    if runtime.turns is not None:
        await best_effort(end_done(runtime, work, runtime.turns, recordable(emit)))
    await work.delivery.ack()
    log.info("delivery_done", event_name=work.event_name, emitted=emit.name if emit is not None else None)
    return Done(emit)


async def _emit_all(runtime: Runtime, work: Work, last: Event | None) -> None:
    for event in (*work.along, *([last] if last is not None else [])):
        await _until_confirmed(runtime, partial(_publish, runtime, event))


async def _settle_retry(runtime: Runtime, work: Work, error: StageError, delay: timedelta) -> None:
    hop = next_hop(delay, runtime.ladder)
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=hop)
    await _wait(runtime, work, hop, with_wait_left(headers, delay - hop))
    log.info("delivery_retried", delay_s=round(delay.total_seconds(), 3), error_code=error.error_code, error=str(error))
    await _note_error(runtime, work, error, next_in=delay)


async def _settle_deferral(runtime: Runtime, work: Work, error: Deferred) -> None:
    hop = next_hop(error.delay, runtime.ladder)
    await _wait(runtime, work, hop, with_wait_left(headers_after_deferral(work, hop), error.delay - hop))
    if isinstance(error, StillWaiting):
        return
    log.info("delivery_deferred", delay_s=error.delay.total_seconds(), error_code=error.error_code, error=str(error))


async def _wait(runtime: Runtime, work: Work, hop: timedelta, headers: Headers) -> None:
    await _until_confirmed(runtime, lambda: work.delivery.retry_after(hop, headers))


async def _settle_dead_letter(runtime: Runtime, work: Work, error: StageError) -> None:
    failure = _failure(runtime, work, error)
    await _emit_all(runtime, work, failure)
    if failure is not None and (ends := runtime.turns or runtime.ends):
        await best_effort(end_given_up(runtime, work, ends, failure))
    reason = DeadLetterReason(error.error_code, str(error)[:1000], runtime.stage, _evidence(error))
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=timedelta())
    await _until_confirmed(runtime, lambda: work.delivery.dead_letter(reason, as_first_copy(headers)))
    log.warning(
        "delivery_dead_lettered",
        event_name=work.event_name,
        error_code=error.error_code,
        error=str(error),
        user_told=failure is not None,
    )
    await _note_error(runtime, work, error, next_in=None)


def _evidence(error: StageError) -> str:
    """Masked in any case: dead letters are read by whoever may look at the broker, and kept for long."""
    if error.evidence is None:
        return ""
    masked = redacted(error.evidence)
    return masked if isinstance(masked, str) else json.dumps(masked, ensure_ascii=False, default=str)


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
            await asyncio.sleep(_BROKER_RETRY.total_seconds())


async def _note_error(runtime: Runtime, work: Work, error: StageError, *, next_in: timedelta | None) -> None:
    if work.event is None:
        return
    tried = FailedTry(work.attempt.number, error.error_code, next_in)
    await best_effort(
        runtime.journal.note_error(work.event.message_id, stage=runtime.stage, at=runtime.clock.now(), tried=tried)
    )
