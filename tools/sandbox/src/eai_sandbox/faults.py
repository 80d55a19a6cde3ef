"""Injected faults: which one applies to the next call, and what it does to that call."""

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
    """What a fault does to a call."""

    LATENCY = "latency"
    STATUS = "status"
    HANG = "hang"
    MALFORMED = "malformed"


class Fault(BaseModel):
    """A fault for the calls to one target; the body of `PUT /sandbox/faults`.

    `match` searches the call's content: the question; for speech the recognizer and the language codes, because the
    words are not known yet; for the EAI service the user's number, the agent's id or the tags.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target
    kind: FaultKind
    seconds: float | None = Field(
        None, ge=0, le=3600, description="latency: how long; hang: at most; else: a wait before"
    )
    status: int | None = Field(None, ge=400, le=599, description="HTTP status; over gRPC the code that it maps to")
    retry_after_s: float | None = Field(None, ge=0, description="Retry-After, over gRPC RetryInfo; only with status")
    times: int | None = Field(None, ge=1, description="how many calls it applies to; without it, until deleted")
    match: str | None = Field(None, min_length=1, description="applies only to calls whose content contains this")

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
class _ActiveFault:
    fault: Fault
    left: int | None  # None: no limit


class Faults:
    """The active faults; the first one that matches a call applies."""

    def __init__(self) -> None:
        self._active: list[_ActiveFault] = []

    def put(self, fault: Fault) -> None:
        """Add a fault; it replaces one with the same target and match."""
        new = _ActiveFault(fault, fault.times)
        for place, old in enumerate(self._active):
            if (old.fault.target, old.fault.match) == (fault.target, fault.match):
                self._active[place] = new
                return
        self._active.append(new)

    def clear(self) -> None:
        """Remove every fault; a call that one already applies to is not changed."""
        self._active.clear()

    def take(self, target: Target, content: str) -> Fault | None:
        """The fault for this call, counted down; None if there is none."""
        for place, active in enumerate(self._active):
            fault = active.fault
            if fault.target is target and (fault.match is None or fault.match in content):
                self._count_down(place)
                return fault
        return None

    def as_json(self) -> list[JsonObject]:
        """The active faults, with how many calls are `left` for each."""
        return [{**active.fault.model_dump(mode="json"), "left": active.left} for active in self._active]

    def _count_down(self, place: int) -> None:
        active = self._active[place]
        if active.left is None:
            return
        if active.left == 1:
            del self._active[place]
        else:
            self._active[place] = replace(active, left=active.left - 1)


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that passed the gate."""

    call: Call
    is_malformed: bool  # answer in a shape that no client expects


class Gate:
    """What every call passes: records it, delays or refuses it if a fault says so, and records how it ended."""

    def __init__(self, calls: CallLog, faults: Faults, *, agent_latency: timedelta, hang_limit: timedelta) -> None:
        self.calls = calls
        self.faults = faults
        self._agent_latency = agent_latency
        self._hang_limit = hang_limit

    @asynccontextmanager
    async def admit(self, call: Call) -> AsyncIterator[Admission]:
        """Admit a call for as long as the context. Raises Refused if a fault says so."""
        self.calls.start(call)
        try:
            fault = self.faults.take(call.target, call.content)
            await self._delay(call)
            if fault is not None:
                await self._apply(fault)
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

    async def _apply(self, fault: Fault) -> None:
        log.info("fault_met", target=fault.target.value, kind=fault.kind.value, status=fault.status)
        if fault.kind is FaultKind.HANG:
            limit_s = self._hang_limit.total_seconds()
            await asyncio.sleep(limit_s if fault.seconds is None else min(fault.seconds, limit_s))
            raise Refused("a fault made this call hang, and the client did not give up", status=504)
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault.status is not None:
            raise Refused("a fault made this call fail", status=fault.status, retry_after_s=fault.retry_after_s)
