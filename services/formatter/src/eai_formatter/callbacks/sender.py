"""What the delivery of a callback decides: which messages get one, and what becomes of the receiver's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from eai_common.clock import Clock, Deadline
from eai_common.guards import Call, Guard, enforce_max_wait
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
from eai_common.store import StoreUnavailable
from eai_common.telemetry import Metrics, add_to_line, get_logger
from eai_formatter.callbacks.answers import (
    CallbackFailed,
    CallbackUnsigned,
    DeliveryResult,
    fail_without_answer,
    read_answer,
)
from eai_formatter.callbacks.log import CallbackAttempt
from eai_formatter.callbacks.payload import build_payload
from eai_formatter.callbacks.signing import Bearer, Signer

__all__ = ["AttemptWriter", "CallbackRules", "CallbackSender", "Poster"]

log = get_logger("eai.callbacks")

_SERVICE = "callback"


class Poster(Protocol):
    """The guarded client, as far as it is used here."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, deadline: Deadline) -> Answered:
        """Raises OutboundRefused, OutboundUnknownHost, OutboundTimeout or OutboundUnreachable."""


class AttemptWriter(Protocol):
    """The delivery log."""

    def note_attempt(self, event: TaskCompleted, tried: CallbackAttempt) -> Awaitable[None]:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class CallbackRules:
    """What holds for every callback."""

    policy: OutboundPolicy
    timeout: timedelta
    must_be_signed: bool
    max_wait: timedelta = timedelta(hours=24)  # for the host, all attempts together, until waiting costs attempts


@dataclass(frozen=True, slots=True)
class CallbackSender:
    """Posts a result to the message's callback URL, if it has one, under the same webhook-id at every attempt."""

    client: Poster
    signer: Signer
    bearer: Bearer
    hosts: Guard
    attempts: AttemptWriter
    rules: CallbackRules
    clock: Clock
    metrics: Metrics

    async def send(self, event: TaskCompleted, ctx: StageContext) -> None:
        """Raises HostBusy or HostDown (the host takes nothing for now), CallbackFailed or CallbackOverdue (the attempt
        failed), CallbackUnsigned or OutboundRefused (no other attempt would do better)."""
        if event.callback_url is None:
            return
        if self.rules.must_be_signed and not self.signer.can_sign:
            raise CallbackUnsigned("there is no secret to sign with: set CALLBACK_SECRETS, then replay the dead letter")
        target = Target.parse(event.callback_url, self.rules.policy)
        with enforce_max_wait(self.rules.max_wait, waited=ctx.attempt.waited):
            await self._deliver(event, target, ctx)

    async def _deliver(self, event: TaskCompleted, target: Target, ctx: StageContext) -> None:
        at, began_s = self.clock.now(), asyncio.get_running_loop().time()
        failure: CallbackFailed | OutboundRefused | None = None
        try:
            async with self.hosts.enter(Call(ctx.deadline.within(self.rules.timeout), target.authority)) as call:
                result = await self._post(event, target, call.deadline)
        except (CallbackFailed, OutboundRefused) as error:
            result, failure = DeliveryResult.of_error(error), error
        took = timedelta(seconds=asyncio.get_running_loop().time() - began_s)
        self.metrics.external_calls.labels(_SERVICE, result.label).inc()
        self.metrics.external_duration.labels(_SERVICE).observe(took.total_seconds())
        took_ms = round(took.total_seconds() * 1000, 1)
        add_to_line(callback_host=target.host, callback_result=result.summary, callback_ms=took_ms)
        await self._note(event, CallbackAttempt(ctx.attempt.number, result.state, result.summary, at, took))
        if failure is not None:
            raise failure

    async def _post(self, event: TaskCompleted, target: Target, deadline: Deadline) -> DeliveryResult:
        body = build_payload(event)
        now = self.clock.now()
        headers = {
            "Content-Type": "application/json",
            **self.signer.headers(event.message_id, body, at=now),
            **self.bearer.headers(target),
        }
        try:
            answered = await self.client.post(target.url, body, headers, deadline=deadline)
        except (OutboundUnknownHost, OutboundTimeout, OutboundUnreachable) as error:
            raise fail_without_answer(error) from error
        return read_answer(answered, target.host, now=now)

    async def _note(self, event: TaskCompleted, tried: CallbackAttempt) -> None:
        """Best effort: what was delivered is not delivered again because Redis could not note it."""
        try:
            await self.attempts.note_attempt(event, tried)
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error))
