"""What a process depends on, and how healthy that is. Each check runs once at a time, however many callers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pydantic import JsonValue

from eai_common.clock import Clock, SystemClock
from eai_common.messages import rfc3339

__all__ = ["Check", "Dependencies", "Dependency", "Finding", "Status", "worst"]

Status = Literal["healthy", "degraded", "unhealthy"]
_SYSTEM_CLOCK = SystemClock()
_ORDER: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `details` are for an operator."""

    status: Status
    details: Mapping[str, JsonValue] = field(default_factory=dict)


Check = Callable[[], Awaitable[Finding]]
"""Checks a dependency. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something outside that the process uses. If `is_needed`, the process is unhealthy without it, else degraded."""

    name: str
    check: Check
    is_needed: bool = False


@dataclass
class _Cached:
    """A dependency with its last finding."""

    dependency: Dependency
    finding: Finding | None = None
    checked_s: float = 0.0
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Dependencies:
    """The dependencies of a process. A finding is kept for `ttl`; a check may take `timeout`."""

    def __init__(self, dependencies: Sequence[Dependency], clock: Clock, *, ttl: timedelta, timeout: timedelta) -> None:
        self._cached = {one.name: _Cached(one) for one in dependencies}
        self._clock = clock
        self._ttl_s = ttl.total_seconds()
        self._timeout_s = timeout.total_seconds()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._cached)

    async def finding(self, name: str) -> Finding:
        """The last finding, or a new one if that is too old. Raises KeyError if there is no such dependency."""
        cached = self._cached[name]
        async with cached.checking:  # callers that come during a check share its finding
            if cached.finding is None or asyncio.get_running_loop().time() - cached.checked_s >= self._ttl_s:
                cached.finding = await self._check(cached.dependency)
                cached.checked_s = asyncio.get_running_loop().time()
            return cached.finding

    async def findings(self, *, without: str = "") -> dict[str, Finding]:
        """The finding of each dependency; the one `without` is neither checked nor in it."""
        names = [name for name in self._cached if name != without]
        found = await asyncio.gather(*(self.finding(name) for name in names))
        return dict(zip(names, found, strict=True))

    def verdict(self, findings: Mapping[str, Finding]) -> Status:
        """The process's status: unhealthy if a needed dependency is, degraded if any other is not healthy."""
        return worst(self._weigh(name, finding.status) for name, finding in findings.items())

    def _weigh(self, name: str, status: Status) -> Status:
        is_needed = name in self._cached and self._cached[name].dependency.is_needed
        return status if is_needed or status == "healthy" else "degraded"

    async def _check(self, dependency: Dependency) -> Finding:
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await dependency.check()
        except TimeoutError:
            found = Finding("unhealthy", {"error": f"no answer within {self._timeout_s:g} s"})
        took_ms = round((asyncio.get_running_loop().time() - began_s) * 1000, 1)
        times: dict[str, JsonValue] = {"checked_at": rfc3339(self._clock.now()), "response_time_ms": took_ms}
        return Finding(found.status, {**found.details, **times})


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; healthy if there are none."""
    return max(statuses, key=_ORDER.index, default="healthy")
