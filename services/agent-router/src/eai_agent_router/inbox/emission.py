"""Publishes outcomes in their order, each confirmed, and the dead letters of what this stage gave up."""

from __future__ import annotations

import json
from functools import partial

from eai_agent_router.inbox.notes import RecordedOutcome
from eai_common.broker import DeadLetterReason, Headers, Outgoing, Unroutable
from eai_common.errors import StageError
from eai_common.messages import SCHEMA_VERSION, MessageFailed, decode_named
from eai_common.stage import Runtime, attempt_headers, journey_headers, publish_until_confirmed
from eai_common.telemetry import get_logger, trace_headers
from eai_common.turns.bodies import make_permit
from eai_common.turns.state import CANCELLED, Emission

__all__ = ["Emitter", "RecordedFailure"]

log = get_logger(__name__)

_SCHEMA: Headers = {"x-eai-schema": SCHEMA_VERSION}


class RecordedFailure(StageError):
    """An error that ended a message, as it was recorded."""

    def __init__(self, error_code: str, text: str) -> None:
        super().__init__(text)
        self.error_code = error_code  # type: ignore[misc]  # of this one, not of its class


class Emitter:
    """Publishes what one stage emits. `is_numbered`: with the numbers that put the outcomes of a user in order."""

    def __init__(self, runtime: Runtime, *, is_numbered: bool) -> None:
        self._runtime = runtime
        self._is_numbered = is_numbered

    async def emit(self, emission: Emission) -> RecordedOutcome:
        """Publish an outcome, until it is confirmed. Gives what was published."""
        outcome = _read(self._runtime.stage, emission)
        try:
            await publish_until_confirmed(partial(self._publish, emission, outcome))
        except Unroutable as error:
            log.error("outcome_unroutable", event_name=outcome.event_name, error=str(error))
            reason = DeadLetterReason(error.error_code, str(error), self._runtime.stage)
            outcome = RecordedOutcome(outcome.event_name, outcome.body, reason)
        if outcome.reason is not None:
            await self._dead_letter(emission, outcome, outcome.reason)
        return outcome

    async def send_permit(self, body: bytes) -> None:
        """Publish one more delivery of the message with this body."""
        permit = make_permit(body)
        await publish_until_confirmed(lambda: self._runtime.broker.publish(permit))

    async def _publish(self, emission: Emission, outcome: RecordedOutcome) -> None:
        order = {"outcome_number": emission.number, "outcome_after": emission.after} if self._is_numbered else {}
        await self._runtime.broker.publish(
            Outgoing(
                routing_key=outcome.event_name,
                body=outcome.body,
                message_id=emission.ref.message_id,
                event=outcome.event_name,
                timestamp=self._runtime.clock.now(),
                headers={**_SCHEMA, **journey_headers(replay=emission.ref.replay, **order), **trace_headers()},
            )
        )
        self._runtime.reporter.published(outcome.event_name).inc()

    async def _dead_letter(self, emission: Emission, outcome: RecordedOutcome, reason: DeadLetterReason) -> None:
        event = decode_named(emission.body)
        letter = Outgoing(
            routing_key=event.name,
            body=emission.body.partition(b"\n")[2],
            message_id=event.message_id,
            event=event.name,
            timestamp=event.timestamp,
            headers={
                **_SCHEMA,
                **event.trace_headers,
                **attempt_headers(outcome.attempt, json.dumps(outcome.errors, ensure_ascii=False)),
            },
        )
        await publish_until_confirmed(lambda: self._runtime.broker.dead_letter(self._runtime.queue, letter, reason))


def _read(stage: str, emission: Emission) -> RecordedOutcome:
    if emission.outcome != CANCELLED:
        return RecordedOutcome.decode(emission.outcome)
    cancelled = MessageFailed.after(
        decode_named(emission.body), error_code="CANCELLED", error="cancelled by its client", failed_stage=stage
    )
    return RecordedOutcome.of(cancelled)
