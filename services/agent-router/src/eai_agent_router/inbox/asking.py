"""Asks an agent one turn: the inbox is told right before, and asking stops when the turn is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from eai_agent_router.handler import Answering, TurnContext
from eai_agent_router.inbox.calls import insist
from eai_agent_router.inbox.notes import TurnNotes
from eai_agent_router.inbox.renewal import Leases
from eai_agent_router.merging import as_one_question
from eai_common.clock import Deadline
from eai_common.errors import Deferred
from eai_common.messages import Event
from eai_common.stage import Attempt, Runtime, StageTimeout, run_best_effort
from eai_common.turns.state import Fail, Lost, Turn
from eai_common.turns.store import InboxStore

__all__ = ["Asking", "InHand", "TurnInterrupted", "TurnLost", "WorkerStops"]

_NOW = timedelta()


class TurnLost(Deferred):
    """The turn is no longer this worker's."""

    error_code = "TURN_LOST"


class TurnInterrupted(Deferred):
    """The turn is to be asked anew, with other messages."""

    error_code = "TURN_INTERRUPTED"


class WorkerStops(Deferred):
    """This process stops, and nobody was asked."""

    error_code = "STOPPING"


@dataclass(frozen=True, slots=True)
class InHand:
    """A turn that this worker has, with its messages as events."""

    user: str
    turn: Turn | Fail
    events: Sequence[Event]

    @property
    def last(self) -> Event:
        return self.events[-1]

    @property
    def attempts(self) -> int:
        """That were made so far."""
        return self.turn.attempts if isinstance(self.turn, Turn) else 0

    @property
    def notes(self) -> TurnNotes:
        return TurnNotes.decode(self.turn.errors)


class Asking:
    """One turn on its way to the provider and back."""

    def __init__(
        self, turn: Turn, hand: InHand, inboxes: InboxStore, leases: Leases, runtime: Runtime, stop: asyncio.Event
    ) -> None:
        self._turn = turn
        self._hand = hand
        self._inboxes = inboxes
        self._leases = leases
        self._runtime = runtime
        self._stop = stop
        self._is_interrupted = False
        self.has_asked = False  # perhaps
        self.attempt = turn.attempts + 1

    async def run(self, answers: Mapping[type[Event], Answering]) -> Event:
        """The event that follows the question.

        Raises what the handler raises, StageTimeout, TurnLost, TurnInterrupted and WorkerStops. Cancelled, it cancels
        the call to the provider.
        """
        question = as_one_question(self._hand.events)
        deadline = Deadline.after(self._runtime.timeout)
        context = TurnContext(
            deadline,
            Attempt(self.attempt, self._hand.notes.waited),
            self._runtime.clock,
            before_asking=lambda: self._before_asking(deadline),
            is_repeated=self._turn.is_uncertain,
        )
        asking = asyncio.create_task(self._limited(answers[type(question)](question, context)), name="ask")
        with self._leases.holding(self._hand.user, self._turn.grant, lambda: self._interrupt(asking)):
            try:
                await self._ended_or_stopped(asking)
            finally:
                await _cancelled(asking)
        if not asking.cancelled():
            return asking.result()
        if self._is_interrupted:
            raise TurnInterrupted("a later message, or its user, stopped the turn", delay=_NOW)
        raise WorkerStops("this process stops", delay=_NOW)

    async def _before_asking(self, deadline: Deadline) -> None:
        self.has_asked = True
        runtime, message_id = self._runtime, self._hand.last.message_id
        ask = self._inboxes.ask(self._hand.user, self._turn.grant, self.attempt)
        started = runtime.progress_log.note_started(
            message_id, stage=runtime.stage, at=runtime.clock.now(), attempt=self.attempt
        )
        answer, _ = await asyncio.gather(insist(ask), run_best_effort(started))
        if isinstance(answer, Lost):
            raise TurnLost("another worker has the turn", delay=_NOW)
        if answer.is_interrupted or deadline.has_passed:  # Redis may have been away for long
            raise TurnInterrupted("the turn is asked anew", delay=_NOW)

    async def _limited(self, answering: Awaitable[Event]) -> Event:
        timeout_s = self._runtime.timeout.total_seconds()
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await answering
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StageTimeout(f"not done within {timeout_s:g} s") from error

    async def _ended_or_stopped(self, asking: asyncio.Task[Event]) -> None:
        """Return when it has ended. When the process stops, one that has not asked yet is cancelled at once."""
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self.has_asked:
                asking.cancel()
            await asyncio.wait({asking})
        finally:
            stopping.cancel()

    def _interrupt(self, asking: asyncio.Task[Event]) -> None:
        self._is_interrupted = True
        asking.cancel()


async def _cancelled(task: asyncio.Task[Event]) -> None:
    """Return when the task has ended, which it is told to do if it has not."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
