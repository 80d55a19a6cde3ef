"""One turn from its grant to its outcome, or to its wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from eai_agent_router.errors import AgentBadResponse, AgentOutcomeUnknown, TranscriptLost, is_sure
from eai_agent_router.inbox.asking import Asking, InHand, TurnInterrupted, TurnLost, WorkerStops
from eai_agent_router.inbox.bench import Bench
from eai_agent_router.inbox.calls import insist
from eai_agent_router.inbox.notes import RecordedOutcome, TurnNotes
from eai_agent_router.merging import merged_into
from eai_common.errors import Deferred, Retriable, StageError
from eai_common.messages import Event, decode_named
from eai_common.stage import (
    Defer,
    HandBack,
    PoisonMessage,
    Postpone,
    RoutineWait,
    UnexpectedError,
    Verdict,
    failure_of,
    reason_of,
    run_best_effort,
    run_shielded,
)
from eai_common.store import FailedAttempt
from eai_common.telemetry import get_logger, log_context, note_error
from eai_common.turns.state import (
    Changed,
    Fail,
    FailCode,
    Lost,
    Overdue,
    Postponed,
    Ref,
    Step,
    Turn,
)

__all__ = ["BEGIN_AGAIN", "BeginAgain", "PutOff", "TurnWork"]

log = get_logger(__name__)

Ending = Callable[[Event], RecordedOutcome]
"""The outcome of the turn, as the end of its last message."""

_NOW = timedelta()


class Suspect(RoutineWait):
    """The turn may be what kills its workers, and this process asks another such turn."""

    error_code = "SUSPECT"


@dataclass(frozen=True, slots=True)
class BeginAgain:
    """The inbox may have something to do at once, or others have the turn."""


BEGIN_AGAIN = BeginAgain()


@dataclass(frozen=True, slots=True)
class PutOff:
    """The turn waits. `verdict` is for the delivery of one of its messages, `body` one of these."""

    refs: Sequence[Ref]
    body: bytes
    verdict: Verdict


_FAILURES: Mapping[FailCode, StageError] = {
    "POISON_MESSAGE": PoisonMessage("several processes died while they worked on it"),
    "AGENT_OUTCOME_UNKNOWN": AgentOutcomeUnknown("the agent was asked before, and nobody knows whether it answered"),
    "TRANSCRIPTION_ERROR": TranscriptLost("no transcript came"),
}


class TurnWork:
    """Takes the turns of one user, for a delivery whose own message is `own`."""

    def __init__(self, bench: Bench, user: str, own: Ref) -> None:
        self._bench = bench
        self._runtime = bench.runtime
        self._inboxes = bench.inboxes
        self._user = user
        self._own = own

    async def take(self, turn: Turn) -> Step | BeginAgain | PutOff:
        """Ask, and record what came of it; or put the turn off."""
        hand = self._in_hand(turn)
        with log_context(message_id=hand.last.message_id, attempt=turn.attempts + 1):
            if self._bench.stop.is_set():
                return await self._put_off(hand, _NOW, HandBack())
            if not turn.lost:
                return await self._ask(turn, hand)
            if self._bench.is_asking_suspect:
                wait = self._bench.rules.suspect_wait
                return await self._put_off(hand, wait, Defer(Suspect("asked alone", delay=wait)))
            self._bench.is_asking_suspect = True
            try:
                return await self._ask(turn, hand)
            finally:
                self._bench.is_asking_suspect = False

    async def fail(self, fail: Fail) -> Step | BeginAgain:
        """Record the failure that the inbox decided on."""
        return await self._record_failure(self._in_hand(fail), _FAILURES[fail.code])

    def _in_hand(self, turn: Turn | Fail) -> InHand:
        return InHand(self._user, turn, [decode_named(question.body) for question in turn.questions])

    async def _ask(self, turn: Turn, hand: InHand) -> Step | BeginAgain | PutOff:
        bench = self._bench
        asking = Asking(turn, hand, bench.inboxes, bench.leases, bench.runtime, bench.stop)
        if len(hand.events) > 1 and not turn.attempts:
            bench.metrics.messages_merged.inc(len(hand.events) - 1)
            log.info("messages_merged", into=hand.last.message_id, count=len(hand.events))
        try:
            event = await asking.run(bench.answers)
        except TurnLost:
            return BEGIN_AGAIN
        except TurnInterrupted:
            return await self._put_off(hand, _NOW, None)
        except WorkerStops:
            return await self._put_off(hand, _NOW, HandBack())
        except Deferred as error:
            return await self._put_off(hand, error.delay, Defer(error))
        except Retriable as error:
            return await self._retry(hand, asking.attempt, error)
        except StageError as error:
            return await self._record_failure(hand, error)
        except asyncio.CancelledError:
            await run_shielded(run_best_effort(self._give_back(hand, asking)))
            raise
        except Exception as error:  # whatever a handler raises, no lease may be left behind
            log.exception("handler_failed_unexpectedly")
            unexpected = UnexpectedError(f"{type(error).__name__} in {self._runtime.stage}")
            unexpected.__cause__ = error
            return await self._retry(hand, asking.attempt, unexpected)
        return await self._record_answer(hand, event)

    # -- later

    async def _give_back(self, hand: InHand, asking: Asking) -> None:
        attempts = asking.attempt if asking.has_asked else hand.attempts
        await self._inboxes.later(
            self._user,
            hand.turn.grant,
            delay=_NOW,
            is_sure=not asking.has_asked,
            attempts=attempts,
            errors=hand.turn.errors,
        )

    async def _put_off(self, hand: InHand, delay: timedelta, verdict: Verdict | None) -> BeginAgain | PutOff:
        """Let the turn wait without an attempt; nobody was asked, or nothing came of it."""
        notes = hand.notes.waiting(delay)
        answer = await insist(
            self._inboxes.later(
                self._user,
                hand.turn.grant,
                delay=delay,
                is_sure=True,
                attempts=hand.attempts,
                errors=notes.encode(),
            )
        )
        if isinstance(answer, Lost) or verdict is None:
            return BEGIN_AGAIN
        return self._waiting(hand, verdict)

    async def _retry(self, hand: InHand, attempt: int, error: Retriable) -> Step | BeginAgain | PutOff:
        """Let the turn wait for its next attempt; record the error after the last, or once it holds others up."""
        if not self._runtime.retry.allows_another(attempt):
            return await self._record_failure(hand, error)
        delay = self._runtime.retry.delay(attempt, retry_after=error.retry_after, random=self._runtime.random)
        answer = await insist(
            self._inboxes.later(
                self._user,
                hand.turn.grant,
                delay=delay,
                is_sure=is_sure(error),
                attempts=attempt,
                errors=self._noted(hand, attempt, error).waiting(delay).encode(),
                give_up_after=self._bench.rules.give_up_after,
            )
        )
        match answer:
            case Overdue():
                return await self._record_failure(hand, error)
            case Lost():
                return BEGIN_AGAIN
            case Postponed():
                await self._tell(hand, attempt, error, next_in=delay)
        return self._waiting(hand, Postpone(error, delay))

    def _waiting(self, hand: InHand, verdict: Verdict) -> PutOff:
        refs = [question.ref for question in hand.turn.questions]
        return PutOff(refs, hand.turn.questions[-1].body, verdict)

    # -- outcomes

    async def _record_answer(self, hand: InHand, event: Event) -> Step | BeginAgain:
        try:
            outcome = RecordedOutcome.of(event)
        except ValueError as error:
            unreadable = AgentBadResponse("the agent's answer cannot be encoded")
            unreadable.__cause__ = error
            return await self._record_failure(hand, unreadable)

        def ending(last: Event) -> RecordedOutcome:
            return outcome if last is hand.last else RecordedOutcome.of(_moved(event, last))

        used = asyncio.ensure_future(self._bench.record_use(hand.last))
        try:
            return await self._record(hand, ending)
        finally:
            await used

    async def _record_failure(self, hand: InHand, error: StageError) -> Step | BeginAgain:
        attempt = hand.attempts + 1
        reason = reason_of(self._runtime, error)
        notes = self._noted(hand, attempt, error)

        def ending(last: Event) -> RecordedOutcome:
            return RecordedOutcome.of(failure_of(self._runtime, last, error), reason, attempt=attempt, notes=notes)

        await self._tell(hand, attempt, error, next_in=None)
        return await self._record(hand, ending)

    async def _record(self, hand: InHand, ending: Ending) -> Step | BeginAgain:
        """Record, for as long as messages are cancelled meanwhile."""
        refs: Sequence[Ref] = [question.ref for question in hand.turn.questions]
        events = {question.ref: event for question, event in zip(hand.turn.questions, hand.events, strict=True)}
        with self._bench.leases.holding(self._user, hand.turn.grant):
            while True:
                outcomes = self._outcomes([(ref, events[ref]) for ref in refs if ref in events], ending)
                fresh = self._runtime.new_id()
                step = await insist(self._inboxes.record(self._user, hand.turn.grant, outcomes, self._own, fresh))
                if not isinstance(step, Changed):
                    return step
                refs = step.refs
                if not refs:
                    return BEGIN_AGAIN

    def _outcomes(self, messages: Sequence[tuple[Ref, Event]], ending: Ending) -> dict[Ref, bytes]:
        """Of several messages the last has the answer, or the failure; the others are merged into it."""
        *others, (last_ref, last) = messages
        end = ending(last)
        now = self._runtime.clock.now()
        found = {
            ref: RecordedOutcome.of(merged_into(last, event, now=now), end.reason, attempt=end.attempt).encode()
            for ref, event in others
        }
        return {**found, last_ref: end.encode()}

    # -- what is told of errors

    def _noted(self, hand: InHand, attempt: int, error: StageError) -> TurnNotes:
        return hand.notes.after(error, attempt=attempt, stage=self._runtime.stage, at=self._runtime.clock.now())

    async def _tell(self, hand: InHand, attempt: int, error: StageError, *, next_in: timedelta | None) -> None:
        note_error(error)
        runtime = self._runtime
        runtime.reporter.errors(error.error_code).inc()
        tried = FailedAttempt(attempt, error.error_code, next_in)
        noted = runtime.progress_log.note_error(
            hand.last.message_id, stage=runtime.stage, at=runtime.clock.now(), tried=tried
        )
        await run_best_effort(noted)


def _moved(event: Event, last: Event) -> Event:
    """The same end for another message."""
    kind = type(event)
    own = {name: getattr(event, name) for name in kind.model_fields if name not in Event.model_fields}
    return kind.after(last, **own)
