"""One delivery at work on its user's inbox: what the inbox says comes next, one step after the other."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from eai_agent_router.inbox.bench import Bench
from eai_agent_router.inbox.calls import insist
from eai_agent_router.inbox.emission import Emitter, RecordedFailure
from eai_agent_router.inbox.notes import RecordedOutcome
from eai_agent_router.inbox.turn import BEGIN_AGAIN, BeginAgain, PutOff, TurnWork
from eai_common.errors import StageError
from eai_common.messages import MessageFailed, TranscriptionFailed, encode_named
from eai_common.stage import Defer, Done, Failed, HandBack, RoutineWait, Verdict, Work, decode_delivery
from eai_common.store import Reply, Request, command, together
from eai_common.telemetry import add_to_line
from eai_common.turns import state
from eai_common.turns.bodies import inbox_message

__all__ = ["OutOfTurn", "Permit"]

_SHORT = timedelta(milliseconds=500)  # less than the shortest rung of the ladder: waited for in the process
_SHORTEST = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_LOOKS_AFTER_A_DEATH = 3


class OutOfTurn(RoutineWait):
    """Something else of the same user comes first."""

    error_code = "OUT_OF_TURN"


class Permit:
    """Used once. What it knows of its own message is `_own`; whose inbox it works on is `_user`."""

    def __init__(self, bench: Bench, work: Work) -> None:
        self._bench = bench
        self._inboxes = bench.inboxes
        self._rules = bench.rules
        self._runtime = bench.runtime
        self._stop = bench.stop
        self._work = work
        self._began_s = asyncio.get_running_loop().time()
        self._turns = 0
        self._own_has_ended = False
        self._failure: StageError | None = None
        self._event = work.event = decode_delivery(bench.runtime, work.delivery)
        self._own = state.Ref(self._event.message_id, self._event.replay)
        self._user = self._event.user_number if bench.rules.is_ordered else self._event.message_id
        self._emitter = Emitter(bench.runtime, is_numbered=bench.rules.is_ordered)
        self._turn_work = TurnWork(bench, self._user, self._own)

    async def use(self) -> Verdict:
        """Work until the delivery can be settled. Raises StoreUnavailable while nothing is in hand."""
        if self._stop.is_set():
            return HandBack()
        step: state.Step | BeginAgain | PutOff | Verdict = await self._begin()
        while True:
            match step:
                case state.Turn():
                    self._turns += 1
                    step = await self._turn_work.take(step)
                case state.Fail():
                    step = await self._turn_work.fail(step)
                case state.Emit():
                    step = await self._emit(step)
                case BeginAgain():
                    step = HandBack() if self._stop.is_set() else await self._begin()
                case PutOff():
                    return await self._leave(step)
                case state.Wait():
                    if not await self._waits_here(step):
                        return self._wait(step)
                    step = BEGIN_AGAIN
                case state.Done():
                    return await self._done()
                case _:
                    return step

    # -- the beginning

    async def _begin(self) -> state.Step:
        owner = self._runtime.new_id()
        event, failure = self._event, None
        if isinstance(event, TranscriptionFailed):
            failure = RecordedOutcome.of(_as_message_failed(event)).encode()
        message = inbox_message(event, mode=self._rules.mode)
        begin = self._inboxes.begin(self._user, message, owner, failure=failure)
        if self._own.replay:
            return await begin
        before, step = await together(self._checkpoint(), begin)
        if before is None or isinstance(step, state.Done):
            return step
        return await self._end_as_before(before, owner)

    def _checkpoint(self) -> Request[bytes | None]:
        """What a router of the version before inboxes recorded of the message; for a day after the upgrade."""
        key = f"checkpoint:{{{self._own.message_id}}}:{self._runtime.stage}"
        return self._bench.redis.request(command("GET", key), decode=lambda replies: _ended_before(replies[0]))

    async def _end_as_before(self, outcome: bytes, owner: str) -> state.Step:
        if outcome:
            name, _, body = outcome.partition(b"\n")
            recorded = RecordedOutcome(name.decode(), body).encode()
            await self._emitter.emit(state.Emission(self._own, recorded, encode_named(self._event), number=0, after=0))
        return await self._ended([self._own], owner)

    # -- the end

    async def _emit(self, emit: state.Emit) -> state.Step | Verdict:
        with self._bench.leases.holding(self._user, state.Grant(emit.owner, 0)):
            for emission in emit.emissions:
                outcome = await self._emitter.emit(emission)
                if emission.ref == self._own:
                    self._note_end(outcome)
            refs = [emission.ref for emission in emit.emissions]
            if self._may_go_on:
                return await self._ended(refs, emit.owner)
            step = await insist(self._inboxes.hand_over(self._user, emit.owner, refs, self._own))
        if isinstance(step, state.HandOver):
            return await self._hand_over(step)
        return step

    async def _ended(self, refs: list[state.Ref], owner: str) -> state.Step:
        self._own_has_ended = self._own_has_ended or self._own in refs
        return await insist(self._inboxes.emitted(self._user, owner, refs, self._own, self._runtime.new_id()))

    def _note_end(self, outcome: RecordedOutcome) -> None:
        self._own_has_ended = True
        add_to_line(emitted=outcome.event_name)
        if outcome.reason is not None:
            self._failure = RecordedFailure(outcome.reason.error_code, outcome.reason.error)

    @property
    def _may_go_on(self) -> bool:
        took_s = asyncio.get_running_loop().time() - self._began_s
        has_time = self._turns < self._rules.turns and took_s < self._rules.work_time.total_seconds()
        return has_time and not self._stop.is_set()

    async def _hand_over(self, step: state.HandOver) -> Verdict:
        if self._stop.is_set() and not step.is_ended:
            return HandBack()  # another replica goes on with this delivery
        await self._emitter.send_permit(step.body)
        return self._end() if step.is_ended else self._defer(self._rules.next_looks[0])

    # -- settling

    async def _done(self) -> Verdict:
        """Its message has ended. One that comes again after its worker died looks whether others wait for a worker."""
        is_first_look = not self._own_has_ended
        self._own_has_ended = True
        if is_first_look and self._work.delivery.redeliveries:
            for _ in range(_LOOKS_AFTER_A_DEATH):
                found = await self._inboxes.hand_over(self._user, self._runtime.new_id(), [], self._own)
                if isinstance(found, state.HandOver):
                    await self._emitter.send_permit(found.body)
                if not isinstance(found, state.Wait) or found.delay_ms * _MILLISECOND > self._rules.lease:
                    break
                if await self._stopped_within(max(found.delay_ms * _MILLISECOND, _SHORT)):
                    return HandBack()
        return self._end()

    def _end(self) -> Verdict:
        return Done(None) if self._failure is None else Failed(self._failure)

    async def _leave(self, put_off: PutOff) -> Verdict:
        """The turn waits. If it is not this delivery's own, the one that it waits for may be far up in the ladder."""
        if self._own in put_off.refs:
            return put_off.verdict
        if self._own_has_ended or not isinstance(put_off.verdict, HandBack):
            await self._emitter.send_permit(put_off.body)
        if self._own_has_ended:
            return self._end()
        return put_off.verdict if isinstance(put_off.verdict, HandBack) else self._defer(self._rules.next_looks[0])

    async def _waits_here(self, wait: state.Wait) -> bool:
        """Whether the wait was so short that it is over now."""
        delay = wait.delay_ms * _MILLISECOND
        if wait.is_ended or wait.rank or not timedelta() < delay <= _SHORT:
            return False
        await self._stopped_within(delay)
        return True

    def _wait(self, wait: state.Wait) -> Verdict:
        if wait.is_ended:
            return self._end()
        delay = max(wait.delay_ms * _MILLISECOND, _SHORTEST)
        if wait.rank == 0:
            return self._defer(delay)
        self._bench.metrics.ordering_waited.inc()
        shortest, longest = self._rules.next_looks if wait.rank == 1 else self._rules.others_look
        look = min(max(self._work.attempt.waited, shortest), longest)
        return self._defer(min(delay, look) if self._work.delivery.redeliveries else look)

    def _defer(self, delay: timedelta) -> Verdict:
        return Defer(OutOfTurn("something else of the user comes first", delay=delay))

    async def _stopped_within(self, delay: timedelta) -> bool:
        try:
            async with asyncio.timeout(delay.total_seconds()):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


def _ended_before(checkpoint: Reply) -> bytes | None:
    """The outcome of a checkpoint: empty for a message that was given up, None for one that has not ended."""
    if not isinstance(checkpoint, bytes):
        return None
    if checkpoint.startswith(b"gone:"):
        return b""
    return checkpoint.removeprefix(b"done:") if checkpoint.startswith(b"done:") else None


def _as_message_failed(event: TranscriptionFailed) -> MessageFailed:
    own = {name: getattr(event, name) for name in ("error_code", "error", "failed_stage", "retry_after_s")}
    return MessageFailed.after(event, **own)
