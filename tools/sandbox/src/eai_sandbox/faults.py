"""Faults on demand: which one the next call meets, and what it does to that call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eai_sandbox.calls import Call, CallLog, Target
from eai_sandbox.jsontype import JsonObject
from eai_sandbox.refusal import Refused

__all__ = ["Admission", "Fault", "FaultKind", "Faults", "Gate"]

log = structlog.get_logger(__name__)


class FaultKind(StrEnum):
    """What happens to a call."""

    LATENCY = "latency"
    STATUS = "status"
    HANG = "hang"
    MALFORMED = "malformed"


class Fault(BaseModel):
    """An order to spoil calls; the body of `PUT /sandbox/faults`.

    `match` looks in the call's content: the question, or for speech the recognizer and the language codes, since what
    is said is not known yet; for the EAI service the user's number, the agent's id or the tags.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target
    kind: FaultKind
    seconds: float | None = Field(
        None, ge=0, le=3600, description="latency: how long; hang: at most; else: a wait before"
    )
    status: int | None = Field(None, ge=400, le=599, description="HTTP status; over gRPC the code that it maps to")
    retry_after_s: float | None = Field(None, ge=0, description="Retry-After, over gRPC RetryInfo; only with status")
    times: int | None = Field(None, ge=1, description="how many calls it spoils; absent means until deleted")
    match: str | None = Field(None, min_length=1, description="spoils only calls whose content has this in it")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind is FaultKind.LATENCY and self.seconds is None:
            raise ValueError("latency needs seconds")
        if (self.kind is FaultKind.STATUS) != (self.status is not None):
            raise ValueError("status is needed for kind status, and only there")
        if self.retry_after_s is not None and self.kind is not FaultKind.STATUS:
            raise ValueError("retry_after_s goes with kind status only")
        return self


@dataclass(frozen=True, slots=True)
class _Standing:
    fault: Fault
    left: int | None  # None is without end


class Faults:
    """The standing orders; the first one that fits a call is the one that it meets."""

    def __init__(self) -> None:
        self._standing: list[_Standing] = []

    def put(self, fault: Fault) -> None:
        """Order a fault; one for the same target and match takes the older one's place."""
        new = _Standing(fault, fault.times)
        for place, old in enumerate(self._standing):
            if (old.fault.target, old.fault.match) == (fault.target, fault.match):
                self._standing[place] = new
                return
        self._standing.append(new)

    def clear(self) -> None:
        """Take every order back; calls that already met one go on with it."""
        self._standing.clear()

    def take(self, target: Target, content: str) -> Fault | None:
        """The fault that this call meets, counted down; None when the call is to go well."""
        for place, order in enumerate(self._standing):
            fault = order.fault
            if fault.target is target and (fault.match is None or fault.match in content):
                self._count_down(place)
                return fault
        return None

    def as_json(self) -> list[JsonObject]:
        """The standing orders with what is `left` of each."""
        return [{**order.fault.model_dump(mode="json"), "left": order.left} for order in self._standing]

    def _count_down(self, place: int) -> None:
        order = self._standing[place]
        if order.left is None:
            return
        if order.left == 1:
            del self._standing[place]
        else:
            self._standing[place] = replace(order, left=order.left - 1)


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may be answered."""

    call: Call
    is_malformed: bool  # answer it, but in a shape that no client expects


class Gate:
    """What every call passes: recorded, made late or refused as ordered, and marked with how it ended."""

    def __init__(self, calls: CallLog, faults: Faults, *, agent_latency: timedelta, hang_limit: timedelta) -> None:
        self.calls = calls
        self.faults = faults
        self._agent_latency = agent_latency
        self._hang_limit = hang_limit

    @asynccontextmanager
    async def admit(self, call: Call) -> AsyncIterator[Admission]:
        """Let a call in; raises Refused when a fault says so."""
        self.calls.note(call)
        try:
            fault = self.faults.take(call.target, call.content)
            await self._delay(call)
            if fault is not None:
                await self._suffer(fault)
            is_malformed = fault is not None and fault.kind is FaultKind.MALFORMED
            yield Admission(call, is_malformed)
        except Refused as refusal:
            self.calls.end(call, f"refused:{refusal.status}")
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.calls.end(call, "cancelled")
            raise
        except BaseException:
            self.calls.end(call, "failed")
            raise
        self.calls.end(call, "malformed" if is_malformed else "answered")

    async def _delay(self, call: Call) -> None:
        if self._agent_latency and call.target in (Target.AGENT_ENGINE, Target.LETTA, Target.OPENAI):
            await asyncio.sleep(self._agent_latency.total_seconds())

    async def _suffer(self, fault: Fault) -> None:
        log.info("fault_met", target=fault.target.value, kind=fault.kind.value, status=fault.status)
        if fault.kind is FaultKind.HANG:
            limit_s = self._hang_limit.total_seconds()
            await asyncio.sleep(limit_s if fault.seconds is None else min(fault.seconds, limit_s))
            raise Refused("the sandbox was told to hang, and nobody gave up", status=504)
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault.status is not None:
            raise Refused("the sandbox was told to fail", status=fault.status, retry_after_s=fault.retry_after_s)
