"""What the delivery of a callback decides: who gets one, when it is whose turn, and what becomes of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from eai_common.clock import Clock, Deadline
from eai_common.errors import Deferred, Retriable
from eai_common.messages import TaskCompleted
from eai_common.outbound import (
    Answered,
    OutboundPolicy,
    OutboundRefused,
    OutboundTimeout,
    OutboundUnknownHost,
    OutboundUnreachable,
    Target,
)
from eai_common.stage import StageContext
from eai_common.store import CallbackTry, StoreUnavailable
from eai_common.telemetry import Metrics, get_logger
from eai_formatter.callbacks.answers import CallbackUnsigned, Tried, tried_by_answer, tried_by_error
from eai_formatter.callbacks.hosts import Hosts
from eai_formatter.callbacks.payload import payload_of
from eai_formatter.callbacks.signing import Bearer, Signer

__all__ = ["CallbackOverdue", "DeliverCallback", "Rules", "Sender", "TryWriter"]

log = get_logger("eai.callbacks")

_SERVICE = "callback"


class CallbackOverdue(Retriable):
    """It has waited so long for its turn at the host that waiting on counts as a failed try."""

    error_code = "CALLBACK_OVERDUE"


class Sender(Protocol):
    """The guarded client, as far as it is used here."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, deadline: Deadline) -> Answered:
        """Raises OutboundRefused, OutboundUnknownHost, OutboundTimeout or OutboundUnreachable."""


class TryWriter(Protocol):
    """The delivery log."""

    async def note_try(self, event: TaskCompleted, tried: CallbackTry) -> None:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every callback."""

    policy: OutboundPolicy
    timeout: timedelta
    must_be_signed: bool
    patience: timedelta = timedelta(hours=24)  # of waiting, all tries together, until a deferral costs an attempt


@dataclass(frozen=True, slots=True)
class DeliverCallback:
    """Posts the result to the message's callback URL, if it has one, under the same webhook-id at every try."""

    sender: Sender
    signer: Signer
    bearer: Bearer
    hosts: Hosts
    tries: TryWriter
    rules: Rules
    clock: Clock
    metrics: Metrics

    async def __call__(self, event: TaskCompleted, ctx: StageContext) -> None:
        if event.callback_url is None:
            return
        if self.rules.must_be_signed and not self.signer.is_able:
            raise CallbackUnsigned("there is no secret to sign with: set CALLBACK_SECRETS, then replay the dead letter")
        target = Target.parse(event.callback_url, self.rules.policy)
        try:
            await self._deliver(event, target, ctx)
        except Deferred as error:
            if ctx.attempt.waited < self.rules.patience:
                raise
            raise CallbackOverdue(f"{error}, and this delivery has waited for {ctx.attempt.waited}") from error

    async def _deliver(self, event: TaskCompleted, target: Target, ctx: StageContext) -> None:
        with self.hosts.place(target.authority) as place:
            at, began_s = self.clock.now(), asyncio.get_running_loop().time()
            tried = await self._try(event, target, ctx)
            took = timedelta(seconds=asyncio.get_running_loop().time() - began_s)
            place.is_host_down, place.pause = tried.is_host_down, tried.pause
        self.metrics.external_calls.labels(_SERVICE, tried.label).inc()
        self.metrics.external_duration.labels(_SERVICE).observe(took.total_seconds())
        log.info("callback_tried", host=target.host, result=tried.result, took_s=round(took.total_seconds(), 3))
        await self._note(event, CallbackTry(ctx.attempt.number, tried.state, tried.result, at, took))
        if tried.error is not None:
            raise tried.error

    async def _try(self, event: TaskCompleted, target: Target, ctx: StageContext) -> Tried:
        body = payload_of(event)
        now = self.clock.now()
        headers = {
            "Content-Type": "application/json",
            **self.signer.headers(event.message_id, body, at=now),
            **self.bearer.headers(target),
        }
        in_time = ctx.deadline.within(self.rules.timeout)
        try:
            answered = await self.sender.post(target.url, body, headers, deadline=in_time)
        except (OutboundRefused, OutboundUnknownHost, OutboundTimeout, OutboundUnreachable) as error:
            return tried_by_error(error)
        return tried_by_answer(answered, target.host, now=now)

    async def _note(self, event: TaskCompleted, tried: CallbackTry) -> None:
        try:
            await self.tries.note_try(event, tried)
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error))
