"""What a process depends on, and how that is: looked at now and then, by one look at a time, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pydantic import JsonValue

from eai_common.clock import Clock
from eai_common.messages import rfc3339

__all__ = ["Dependencies", "Dependency", "Finding", "Look", "Status", "worst"]

Status = Literal["healthy", "degraded", "unhealthy"]
_ORDER: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class Finding:
    """How a dependency was found; `details` are for an operator."""

    status: Status
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def is_healthy(self) -> bool:
        return self.status == "healthy"


Look = Callable[[], Awaitable[Finding]]
"""Looks at a dependency. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something outside that the process uses. One that it `needs` makes it unhealthy when down; others degrade it."""

    name: str
    look: Look
    is_needed: bool = False


@dataclass
class _Known:
    """A dependency with what was found of it last."""

    dependency: Dependency
    finding: Finding | None = None
    looked_s: float = 0.0
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Dependencies:
    """The dependencies of a process. A finding is kept for `ttl`; a look may take `patience`."""

    def __init__(
        self, dependencies: Sequence[Dependency], clock: Clock, *, ttl: timedelta, patience: timedelta
    ) -> None:
        self._known = {one.name: _Known(one) for one in dependencies}
        self._clock = clock
        self._ttl_s = ttl.total_seconds()
        self._patience_s = patience.total_seconds()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    async def finding(self, name: str) -> Finding:
        """How it is, or was a moment ago. Raises KeyError for what is no dependency."""
        known = self._known[name]
        async with known.looking:  # who comes while another looks gets what that one finds
            if known.finding is None or asyncio.get_running_loop().time() - known.looked_s >= self._ttl_s:
                known.finding = await self._look(known.dependency)
                known.looked_s = asyncio.get_running_loop().time()
            return known.finding

    async def findings(self) -> dict[str, Finding]:
        """How all are."""
        found = await asyncio.gather(*(self.finding(name) for name in self._known))
        return dict(zip(self._known, found, strict=True))

    def verdict(self, findings: Mapping[str, Finding]) -> Status:
        """How the process is, that found this: unhealthy if what it needs is, degraded if anything is not healthy."""
        return worst(self._weighed(name, finding.status) for name, finding in findings.items())

    def _weighed(self, name: str, status: Status) -> Status:
        is_needed = name in self._known and self._known[name].dependency.is_needed
        return status if is_needed or status == "healthy" else "degraded"

    async def _look(self, dependency: Dependency) -> Finding:
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience_s):
                found = await dependency.look()
        except TimeoutError:
            found = Finding("unhealthy", {"error": f"no answer within {self._patience_s:g} s"})
        took_ms = round((asyncio.get_running_loop().time() - began_s) * 1000, 1)
        times: dict[str, JsonValue] = {"checked_at": rfc3339(self._clock.now()), "response_time_ms": took_ms}
        return Finding(found.status, {**found.details, **times})


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; healthy if there are none."""
    return max(statuses, key=_ORDER.index, default="healthy")
