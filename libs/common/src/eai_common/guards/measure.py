"""Counts and times the calls that are made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eai_common.guards.guard import Call
from eai_common.telemetry import Metrics

__all__ = ["Measure"]


@dataclass(frozen=True, slots=True)
class Measure:
    """Inside of all that may defer a call, so that only calls that were made are counted."""

    name: str
    metrics: Metrics

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        with self.metrics.external_call(self.name):
            yield call
