"""Lets the messages of one user go one after the other, in the order in which they were accepted.

The mailbox in Redis says who is first. What is not goes into the delay ladder, as the copy that survives everything,
and into the mailbox, from where it is sent on its way as soon as those before it have ended. Why: docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from eai_agent_router.merging import as_one_turn, kind_of
from eai_common.clock import Clock
from eai_common.messages import Event
from eai_common.stage import MailboxEndObserver, OutOfOrder, Work, park, unpark
from eai_common.store import Checkpoints, Mailboxes
from eai_common.store.mailboxes import Absent, Behind, MergeRule, Spare, TooEarly, YourTurn
from eai_common.telemetry import Metrics, get_logger

__all__ = ["OrderRules", "MailboxOrdering"]

log = get_logger(__name__)

_SUSPICIOUS = timedelta(seconds=5)  # first for longer than this: worth a look at what it is doing
_SURELY_SETTLED = timedelta(seconds=10)
_SHORTEST = timedelta(seconds=1)
_MOST_STEPS = 50


@dataclass(frozen=True, slots=True)
class OrderRules:
    """`max_wait` is how long a first message may make no progress; `merging` None: each message is its own turn.

    A copy in the ladder looks again after as long as it has waited so far, within these limits: it matters only when
    something was lost, or the first message is stuck, for which the next in line keeps watch.
    """

    max_wait: timedelta
    merging: MergeRule | None = None
    next_looks: tuple[timedelta, timedelta] = (timedelta(seconds=2), timedelta(seconds=10))
    others_look: tuple[timedelta, timedelta] = (timedelta(seconds=10), timedelta(seconds=60))


class MailboxOrdering:
    """`UserOrdering` on mailboxes. `own` and `earlier` are the checkpoints of this stage and of the one before."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        end_observer: MailboxEndObserver,
        own: Checkpoints,
        earlier: Checkpoints,
        rules: OrderRules,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._mailboxes = mailboxes
        self._end_observer = end_observer
        self._own = own
        self._earlier = earlier
        self._rules = rules
        self._clock = clock
        self._metrics = metrics

    async def admit(self, work: Work) -> None:
        """Return if the delivery may go now. Raises OutOfOrder or StoreUnavailable."""
        message = work.decoded
        for _ in range(_MOST_STEPS):
            match await self._standing(message, work):
                case YourTurn(together):
                    self._merge(work, message, together)
                    return
                case Spare():
                    work.is_spare = True
                    return
                case TooEarly(wait):
                    raise OutOfOrder("more may come to be answered together", delay=wait)
                case Behind() as behind:
                    if not await self._cleared(message, behind, work):
                        self._wait(work, behind)
                case Absent():
                    if (await self._own.peek(message.message_id)).ended_at is not None:
                        return  # the record says what to do
                    await self._mailboxes.enter_late(
                        message.user_number,
                        message.message_id,
                        accepted_at=message.timestamp,
                        now=self._clock.now(),
                    )
        raise OutOfOrder("many messages before it were lost", delay=_SHORTEST)

    async def hold(self, work: Work, delay: timedelta) -> None:
        """Keep the delivery's place though nobody works on it for `delay`."""
        message, now = work.decoded, self._clock.now()
        message_id = work.lead_id or message.message_id
        await self._mailboxes.hold(message.user_number, message_id, until=now + delay, now=now)

    async def record_end(self, user_number: str, message_ids: Sequence[str]) -> None:
        """Make room, and wake the next."""
        await self._end_observer.record_end(user_number, message_ids)

    async def _standing(self, message: Event, work: Work) -> YourTurn | Behind | TooEarly | Absent | Spare:
        return await self._mailboxes.arrive(
            message.user_number,
            message.message_id,
            copy=work.copy,
            now=self._clock.now(),
            parked=park(work, kind_of(message)),
            merging=self._rules.merging,
        )

    def _merge(self, work: Work, message: Event, together: Sequence[bytes]) -> None:
        if together:
            turn = as_one_turn(message, [unpark(one) for one in together], now=self._clock.now())
            work.lead_id, work.event, work.along = message.message_id, turn.question, turn.merged
            self._metrics.messages_merged.inc(len(turn.merged))
            log.info("messages_merged", into=turn.question.message_id, count=len(turn.merged) + 1)

    def _wait(self, work: Work, behind: Behind) -> None:
        work.will_wait = True
        self._metrics.ordering_waited.inc()
        is_next = behind.rank == 1
        shortest, longest = self._rules.next_looks if is_next else self._rules.others_look
        delay = min(max(work.waited_behind, shortest), longest)
        stuck_in = behind.since + self._rules.max_wait - self._clock.now()
        if is_next and stuck_in > timedelta():
            delay = min(delay, stuck_in)
        raise OutOfOrder(f"{behind.first} comes first", delay=delay)

    async def _cleared(self, message: Event, behind: Behind, work: Work) -> bool:
        """Whether the first message was found to be over, or stuck, and is out of the way now."""
        waited = self._clock.now() - behind.since
        if not work.copy and waited < min(_SUSPICIOUS, self._rules.max_wait):
            return False
        own = await self._own.peek(behind.first)
        if own.ended_at is not None:
            return await self._swept(message, behind, over_for=self._clock.now() - own.ended_at)
        earlier = await self._earlier.peek(behind.first)
        if own.is_in_work or earlier.is_in_work:
            return False
        came_forward = max(behind.since, earlier.ended_at or behind.since)
        return self._clock.now() - came_forward >= self._rules.max_wait and await self._passed(message, behind)

    async def _swept(self, message: Event, behind: Behind, *, over_for: timedelta) -> bool:
        """Take out a message that ended while Redis could not be told. One that just ended is told of in a moment."""
        if over_for < _SURELY_SETTLED:
            return False
        await self._wake(message, await self._mailboxes.end(message.user_number, [behind.first], now=self._clock.now()))
        return True

    async def _passed(self, message: Event, behind: Behind) -> bool:
        was_stuck, woken = await self._mailboxes.pass_by(message.user_number, behind, now=self._clock.now())
        if was_stuck:
            self._metrics.ordering_passed.inc()
            log.warning("message_passed", stuck_message_id=behind.first, user_number=message.user_number)
            await self._wake(message, woken)
        return was_stuck

    async def _wake(self, message: Event, woken: bytes | None) -> None:
        """Unless it is the very message that is looking: it goes on by itself."""
        if woken is not None and (copy := unpark(woken)).message_id != message.message_id:
            await self._end_observer.wake(copy)
