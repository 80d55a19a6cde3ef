"""Turns a verdict into effects on the broker, each confirmed before the delivery is acked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from eai_common.broker import BrokerUnavailable, DeadLetterReason, Headers, Unroutable
from eai_common.broker.events import make_outgoing
from eai_common.errors import Retriable, StageError
from eai_common.messages import Event, MessageFailed, decode_named, encode_named, salvage
from eai_common.stage.delivery import (
    Defer,
    Done,
    Failed,
    GiveUp,
    HandBack,
    Postpone,
    Retry,
    Verdict,
    Work,
    headers_after_deferral,
    headers_after_failure,
    next_hop,
    with_wait_left,
)
from eai_common.stage.runtime import Runtime, run_best_effort
from eai_common.store import FailedAttempt
from eai_common.telemetry import get_logger, note_error, redacted, trace_headers

__all__ = [
    "carry_out",
    "decode_outcome",
    "encode_outcome",
    "failure_of",
    "publish_until_confirmed",
    "reason_of",
    "record_failure",
]

log = get_logger("eai.stage")

_BROKER_RETRY = timedelta(seconds=1)
_USER_RETRY_AFTER = timedelta(seconds=300)
_LONGEST_ERROR = 1000


def encode_outcome(emit: Event | None) -> bytes:
    """What a checkpoint keeps of a message that is done: the event that followed, if one did."""
    return b"" if emit is None else encode_named(emit)


def decode_outcome(outcome: bytes) -> Event | None:
    """What `encode_outcome` was given. Raises InvalidMessage."""
    return decode_named(outcome) if outcome else None


def record_failure(runtime: Runtime, verdict: Retry | GiveUp) -> Verdict:
    """Count the failure and mark the span; gives the verdict back."""
    note_error(verdict.error)
    runtime.reporter.errors(verdict.error.error_code).inc()
    return verdict


async def carry_out(runtime: Runtime, work: Work, verdict: Verdict) -> Verdict:
    """Settle the delivery as the verdict says; gives the verdict that held in the end. Raises SettlementLost."""
    match verdict:
        case Done(emit):
            return await _settle_done(runtime, work, emit)
        case Retry(error, delay):
            await _settle_retry(runtime, work, error, delay)
        case Postpone(_, delay):
            await _settle_deferral(runtime, work, delay)
        case Defer(error):
            await _settle_deferral(runtime, work, error.delay)
        case Failed():
            await work.delivery.ack()
        case HandBack():
            await work.delivery.requeue()
        case GiveUp(error):
            await _settle_dead_letter(runtime, work, error)
    return verdict


async def _settle_done(runtime: Runtime, work: Work, emit: Event | None) -> Verdict:
    try:
        # Confirm before ack: the other way round, a crash here would lose what follows.
        await _emit(runtime, emit)
    except Unroutable as error:
        await _settle_dead_letter(runtime, work, error)
        return record_failure(runtime, GiveUp(error))
    await work.delivery.ack()
    return Done(emit)


async def _settle_retry(runtime: Runtime, work: Work, error: StageError, delay: timedelta) -> None:
    hop = next_hop(delay, runtime.broker.ladder)
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=hop)
    await _wait(runtime, work, hop, with_wait_left(headers, delay - hop))
    await _note_error(runtime, work, error, next_in=delay)


async def _settle_deferral(runtime: Runtime, work: Work, delay: timedelta) -> None:
    hop = next_hop(delay, runtime.broker.ladder)
    await _wait(runtime, work, hop, with_wait_left(headers_after_deferral(work, hop), delay - hop))


async def _settle_dead_letter(runtime: Runtime, work: Work, error: StageError) -> None:
    failure = _failure(runtime, work, error)
    await _emit(runtime, failure)
    reason = reason_of(runtime, error)
    headers = headers_after_failure(work, error, stage=runtime.stage, at=runtime.clock.now(), delay=timedelta())
    await publish_until_confirmed(lambda: work.delivery.dead_letter(reason, headers))
    await _note_error(runtime, work, error, next_in=None)


def reason_of(runtime: Runtime, error: StageError) -> DeadLetterReason:
    """Why the dead letter of this error was given up."""
    return DeadLetterReason(error.error_code, _text_of(error), runtime.stage, _evidence(error))


def failure_of(runtime: Runtime, event: Event, error: StageError) -> MessageFailed:
    """The event that says of the message that the stage gave it up."""
    retry_after_s = None
    if isinstance(error, Retriable):
        retry_after_s = round((error.retry_after or _USER_RETRY_AFTER).total_seconds())
    return runtime.failure.after(
        event,
        error_code=error.error_code,
        error=_text_of(error),
        failed_stage=runtime.stage,
        retry_after_s=retry_after_s,
    )


def _text_of(error: StageError) -> str:
    """Of what an outside service said, all that can be encoded."""
    return str(error)[:_LONGEST_ERROR].encode(errors="replace").decode()


def _evidence(error: StageError) -> str:
    """Always masked: whoever may look at the broker can read dead letters, and they are kept for long."""
    if error.evidence is None:
        return ""
    masked = redacted(error.evidence)
    return masked if isinstance(masked, str) else json.dumps(masked, ensure_ascii=False, default=str)


def _failure(runtime: Runtime, work: Work, error: StageError) -> MessageFailed | None:
    """The event that tells the user; None if the task has ended already, or nobody can say whose message it was."""
    event = work.event
    if event is None and any(kind.fails_task for kind in runtime.accepts):
        event = salvage(work.delivery.body)
    if event is None or not event.fails_task:
        return None
    return failure_of(runtime, event, error)


async def _emit(runtime: Runtime, event: Event | None) -> None:
    if event is not None:
        await publish_until_confirmed(partial(_publish, runtime, event))


async def _publish(runtime: Runtime, event: Event) -> None:
    await runtime.broker.publish(make_outgoing(event, timestamp=runtime.clock.now(), trace_headers=trace_headers()))
    runtime.reporter.published(event.name).inc()


async def _wait(runtime: Runtime, work: Work, hop: timedelta, headers: Headers) -> None:
    await publish_until_confirmed(lambda: work.delivery.retry_after(hop, headers))


async def publish_until_confirmed(publish: Callable[[], Awaitable[None]]) -> None:
    """Repeat until the broker confirms: the message has no other place, and left unsettled it comes again anyway.

    Raises Unroutable.
    """
    while True:
        try:
            return await publish()
        except BrokerUnavailable as error:
            log.warning("publish_not_confirmed", error=str(error))
            await asyncio.sleep(_BROKER_RETRY.total_seconds())


async def _note_error(runtime: Runtime, work: Work, error: StageError, *, next_in: timedelta | None) -> None:
    if work.event is None:
        return
    tried = FailedAttempt(work.attempt.number, error.error_code, next_in)
    message_id, at = work.event.message_id, runtime.clock.now()
    await run_best_effort(runtime.progress_log.note_error(message_id, stage=runtime.stage, at=at, tried=tried))
