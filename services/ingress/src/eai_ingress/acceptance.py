"""Accepts one message into the pipeline. Every route that brings in messages calls this."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from eai_common.broker import BrokerUnavailable, Publisher, Unconfirmed
from eai_common.broker.events import make_outgoing
from eai_common.clock import Clock, Deadline
from eai_common.errors import Unavailable
from eai_common.guards import Taken
from eai_common.messages import Event
from eai_common.registry import find_stage
from eai_common.store import Request
from eai_common.telemetry import Metrics, add_to_line, get_logger
from eai_ingress.acceptance_store import AcceptanceStore, PendingMessage
from eai_ingress.backpressure import Backpressure, Overloaded
from eai_ingress.estimate import WaitEstimator
from eai_ingress.idempotency import (
    FirstUse,
    IdempotencyClaim,
    InProgress,
    KeyReused,
    KeyUse,
    Receipt,
    Replayed,
    Resumed,
)

__all__ = ["Acceptance", "Accepted", "IdempotencyKey", "KeyConflict", "Limit"]

log = get_logger("eai.ingress")

_RETRY_AFTER = timedelta(seconds=5)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(milliseconds=30), timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's key for one request. `fingerprint` identifies the request."""

    client: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message will end in an answer. `is_replay` says that an earlier request with the same key was accepted."""

    receipt: Receipt
    is_replay: bool = False


class Limit(Protocol):
    """A client's rate limit. `count` counts the request in Redis; `admit` takes the result and may raise."""

    count: Request[Taken]

    def admit(self, taken: Taken) -> None: ...


class KeyConflict(Exception):
    """The client used this key before, for another request."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Registers and publishes a message. `max_wait` bounds the wait for another request with the same key."""

    clock: Clock
    publisher: Publisher
    store: AcceptanceStore
    backpressure: Backpressure
    estimator: WaitEstimator
    metrics: Metrics
    max_wait: timedelta

    async def accept(self, event: Event, key: IdempotencyKey | None = None, limit: Limit | None = None) -> Accepted:
        """Accept the first event of a message; once this returns, the message cannot be lost.

        Raises BrokerUnavailable if no publisher confirm came in time: nothing is promised, the client may try again.
        Raises KeyConflict, and whatever `limit` raises.
        """
        self.backpressure.check(event.message_type)
        message = self._pending(event, key)
        claim = await self._register(message, limit)
        if isinstance(claim, InProgress):
            claim = await self._wait_for_key(message)
        match claim:
            case FirstUse():
                return await self._publish(message)
            case Resumed(receipt):
                return await self._publish(message.resumed(receipt), is_resumed=True)
            case Replayed(receipt):
                _log(message.resumed(receipt), "replayed")
                return Accepted(receipt, is_replay=True)
            case KeyReused():
                raise KeyConflict
        raise Overloaded("another request with the same key is still in progress", retry_after=_RETRY_AFTER)

    async def count(self, limit: Limit | None) -> None:
        """Count a request that is refused. Raises whatever `limit` raises."""
        if limit is None:
            return
        try:
            taken = await limit.count
        except Unavailable:
            return
        limit.admit(taken)

    async def _register(self, message: PendingMessage, limit: Limit | None) -> IdempotencyClaim:
        """Without Redis the message is accepted without key and limit; the poller then judges by the message id."""
        count = None if limit is None else limit.count
        try:
            registration = await self.store.register(message, now=self.clock.now(), count=count)
        except Unavailable as error:
            log.warning("store_unavailable", error=str(error), key_is_unprotected=message.use is not None)
            return FirstUse()
        if not isinstance(registration.claim, FirstUse):
            await self._best_effort(self.store.unregister(message))
        if limit is not None and registration.taken is not None:
            try:
                limit.admit(registration.taken)
            except Exception:
                # Undone here, and not checked before: that would cost every request a second round trip.
                is_certain = isinstance(registration.claim, FirstUse)
                await self._best_effort(self.store.release_key(message, is_certain=is_certain))
                raise
        return registration.claim

    async def _wait_for_key(self, message: PendingMessage) -> IdempotencyClaim:
        """How the other request with the key ended; InProgress after `max_wait`."""
        deadline, pause = Deadline.after(self.max_wait), _FIRST_PAUSE
        claim: IdempotencyClaim = InProgress(self.max_wait)
        while isinstance(claim, InProgress) and not deadline.has_passed:
            await asyncio.sleep(min(pause.total_seconds(), deadline.remaining_s()))
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                claim = await self.store.claim_key(message, now=self.clock.now())
            except Unavailable as error:  # the other request may have published the message, so this one must not
                raise Overloaded("the state of the key is unknown", retry_after=error.delay) from error
        if isinstance(claim, FirstUse):
            await self._best_effort(self.store.write_state(message))
        return claim

    async def _publish(self, message: PendingMessage, *, is_resumed: bool = False) -> Accepted:
        event = message.event
        try:
            await self.publisher.publish(make_outgoing(event))
        except BrokerUnavailable as error:
            is_certain = not is_resumed and not isinstance(error, Unconfirmed)
            await self._best_effort(self.store.release_key(message, is_certain=is_certain))
            raise
        if message.use is not None:
            await self._best_effort(self.store.complete_key(message))
        self.metrics.published.labels(event.name).inc()
        _log(message, "resumed" if is_resumed else "accepted")
        return Accepted(message.receipt)

    async def _best_effort(self, effect: Coroutine[object, object, None]) -> None:
        """Without this effect, the message's id or the lease of its key tell the same later."""
        try:
            await effect
        except Unavailable as error:
            log.warning("store_unavailable", error=str(error))

    def _pending(self, event: Event, key: IdempotencyKey | None) -> PendingMessage:
        # The new message id is unique to this request, so it also identifies who holds the key.
        use = None if key is None else KeyUse(key.client, key.key, key.fingerprint, owner=event.message_id)
        return PendingMessage(event, find_stage(event.name), self.estimator.estimate(event.message_type), use)


def _log(message: PendingMessage, outcome: str) -> None:
    event = message.event
    add_to_line(
        message_id=event.message_id,
        user_number=event.user_number,
        message_type=event.message_type,
        stage="ingress",
        outcome=outcome,
    )
