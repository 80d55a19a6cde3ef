"""Counts and times the calls that are made, and names their provider in the delivery's log line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

from eai_common.guards.guard import Call
from eai_common.telemetry import Metrics, add_to_line, time_to_line

__all__ = ["Measure"]


@dataclass(frozen=True, slots=True)
class Measure:
    """The innermost guard, so that it counts only calls that are made. `time_field` of the log line gets their time."""

    name: str
    metrics: Metrics
    time_field: str | None = None

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        add_to_line(ai_provider=self.name)
        with self.metrics.external_call(self.name), time_to_line(self.time_field) if self.time_field else nullcontext():
            yield call
