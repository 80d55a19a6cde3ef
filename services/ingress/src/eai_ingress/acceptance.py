"""Takes one message into the pipeline. Any route that brings messages in calls this."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from eai_common.broker import BrokerUnavailable, Outgoing, Publisher, Unconfirmed
from eai_common.clock import Clock, Deadline
from eai_common.errors import Unavailable
from eai_common.ids import Ids
from eai_common.messages import Event, HistoryUpdate, MessageAudio, MessageText, encode
from eai_common.store import Call, FirstUse, IdempotencyClaim, Kept, KeyReused, KeyUse, Promise, TakenOver, UnderWay
from eai_common.telemetry import Metrics, add_to_line, get_logger, trace_headers
from eai_ingress.books import Books, Entry
from eai_ingress.estimate import WaitEstimator
from eai_ingress.pressure import Overloaded, Pressure
from eai_ingress.request import WebhookRequest

__all__ = ["Acceptance", "Accepted", "IdempotencyKey", "KeyConflict", "Limit", "outgoing"]

log = get_logger("eai.ingress")

_FIRST_STAGE: dict[type[Event], str] = {
    MessageText: "agent-router",
    MessageAudio: "transcriber",
    HistoryUpdate: "agent-router",
}
_ASK_AGAIN = timedelta(seconds=5)
_ASK_FIRST, _ASK_MOST = timedelta(milliseconds=30), timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's key for one request, which `fingerprint` stands for."""

    client: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promise: the message will end in an answer. `is_replay` when it was made before, for the same key."""

    promise: Promise
    is_replay: bool = False


class Limit(Protocol):
    """How often a client may come: `call` counts the request, `admit` is told the reply and raises when that is too
    often."""

    call: Call

    def admit(self, reply: object) -> None: ...


class KeyConflict(Exception):
    """The client used this key before, for another request."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What accepting needs. `patience` is how long a request waits for another one with the same key."""

    ids: Ids
    clock: Clock
    publisher: Publisher
    books: Books
    pressure: Pressure
    estimator: WaitEstimator
    metrics: Metrics
    patience: timedelta

    async def accept(
        self, request: WebhookRequest, key: IdempotencyKey | None = None, limit: Limit | None = None
    ) -> Accepted:
        """Take one user message in; once this returns, it cannot be lost. Raises what `take_in` does."""
        return await self.take_in(self._first_event(request), key, limit)

    async def take_in(self, event: Event, key: IdempotencyKey | None = None, limit: Limit | None = None) -> Accepted:
        """Take the event into the pipeline; once this returns, it cannot be lost.

        Raises BrokerUnavailable if no publisher confirm came in time: nothing is promised, the client may try again.
        Raises KeyConflict, and what `limit` refuses with.
        """
        self.pressure.check(event.message_type)
        entry = self._entry(event, key)
        claim = await self._entered(entry, limit)
        if isinstance(claim, UnderWay):
            claim = await self._settled(entry)
        match claim:
            case FirstUse():
                return await self._publish(entry)
            case TakenOver(promise):
                return await self._publish(entry.of(promise), may_be_there=True)
            case Kept(promise):
                _add_to_line(entry.of(promise), "replayed")
                return Accepted(promise, is_replay=True)
            case KeyReused():
                raise KeyConflict
        raise Overloaded("another request with the same key is still under way", retry_after=_ASK_AGAIN)

    async def count(self, limit: Limit | None) -> None:
        """Count a request that brings no message in. Raises what `limit` refuses with."""
        if limit is None:
            return
        try:
            reply = await self.books.count(limit.call)
        except Unavailable:
            return
        limit.admit(reply)

    async def _entered(self, entry: Entry, limit: Limit | None) -> IdempotencyClaim:
        """Without Redis a message is taken all the same: the poller judges by its id; neither key nor limit hold."""
        count = None if limit is None else limit.call
        try:
            entered = await self.books.enter(entry, now=self.clock.now(), count=count)
        except Unavailable as error:
            log.warning("store_unavailable", error=str(error), key_is_unprotected=entry.use is not None)
            return FirstUse()
        if not isinstance(entered.claim, FirstUse):
            await self._noted(self.books.withdraw(entry))
        if limit is not None:
            try:
                limit.admit(entered.counted)
            except Exception:
                # Rather than two round trips for everybody: whoever is over the limit has it written and undone.
                await self._noted(self.books.give_up(entry, is_certain=isinstance(entered.claim, FirstUse)))
                raise
        return entered.claim

    async def _settled(self, entry: Entry) -> IdempotencyClaim:
        """How the other request with the key ended, or UnderWay when that takes too long."""
        deadline, pause = Deadline.after(self.patience), _ASK_FIRST
        claim: IdempotencyClaim = UnderWay(self.patience)
        while isinstance(claim, UnderWay) and not deadline.has_passed:
            await asyncio.sleep(min(pause.total_seconds(), deadline.remaining_s()))
            pause = min(pause * 2, _ASK_MOST)
            try:
                claim = await self.books.claim(entry, now=self.clock.now())
            except Unavailable as error:  # not to be published now: the other one may have been
                raise Overloaded("nobody knows what became of the key", retry_after=error.delay) from error
        if isinstance(claim, FirstUse):
            await self._noted(self.books.write(entry))
        return claim

    async def _publish(self, entry: Entry, *, may_be_there: bool = False) -> Accepted:
        event = entry.event
        try:
            await self.publisher.publish(outgoing(event))
        except BrokerUnavailable as error:
            is_certain = not may_be_there and not isinstance(error, Unconfirmed)
            await self._noted(self.books.give_up(entry, is_certain=is_certain))
            raise
        if entry.use is not None:
            await self._noted(self.books.keep(entry))
        self.metrics.published.labels(event.name).inc()
        _add_to_line(entry, "key_taken_over" if may_be_there else "accepted")
        return Accepted(entry.promise)

    async def _noted(self, noting: Coroutine[object, object, None]) -> None:
        """Best effort: what cannot be noted is found out later, by the message's id or the lease of its key."""
        try:
            await noting
        except Unavailable as error:
            log.warning("store_unavailable", error=str(error))

    def _entry(self, event: Event, key: IdempotencyKey | None) -> Entry:
        # The id that the message would have is unique to this request, so it serves to tell who holds the key.
        use = None if key is None else KeyUse(key.client, key.key, key.fingerprint, owner=event.message_id)
        return Entry(event, _FIRST_STAGE[type(event)], self.estimator.estimate(event.message_type), use)

    def _first_event(self, request: WebhookRequest) -> MessageText | MessageAudio:
        kind = MessageAudio if request.kind == "audio" else MessageText
        return kind(
            message_id=self.ids.message_id(),
            user_number=request.user_number,
            message=request.message,
            message_type=request.kind,
            timestamp=self.clock.now(),
            previous_message=request.previous_message,
            metadata=request.metadata or {},
            provider=request.provider,
            reasoning_engine_id=request.reasoning_engine_id,
            callback_url=request.callback_url,
            trace_headers=trace_headers(),
        )


def _add_to_line(entry: Entry, outcome: str) -> None:
    event = entry.event
    add_to_line(
        message_id=event.message_id,
        user_number=event.user_number,
        message_type=event.message_type,
        stage="ingress",
        outcome=outcome,
    )


def outgoing(event: Event) -> Outgoing:
    """The event as the broker gets it."""
    return Outgoing(
        routing_key=event.name,
        body=encode(event),
        message_id=event.message_id,
        event=event.name,
        timestamp=event.timestamp,
        headers={"x-eai-schema": event.schema_version, **event.trace_headers},
    )
