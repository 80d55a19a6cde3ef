"""The health of the whole deployment: every process writes reports, and the poller's `/health` reads all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from pydantic import JsonValue

from eai_common.clock import Clock
from eai_common.health.dependencies import Dependencies, Dependency, Finding, Status, worst
from eai_common.health.reports import HealthReport, HealthReports
from eai_common.store import StoreUnavailable

__all__ = ["GATEWAY", "HealthReporter", "make_gateway_dependency"]

GATEWAY = "gateway"
"""The name of the dependency that stands for all services."""

_REMOVE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HealthReporter:
    """Writes a report for each service of the process, again and again, and removes them at the end."""

    reports: HealthReports
    services: Sequence[str]
    instance: str
    dependencies: Dependencies
    clock: Clock
    interval: timedelta

    async def run(self) -> NoReturn:
        """Write the reports now and each `interval` until cancelled; then remove them."""
        try:
            while True:
                with suppress(StoreUnavailable):  # the check of Redis shows it
                    await self.reports.write(*await self._reports())
                await asyncio.sleep(self.interval.total_seconds())
        finally:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                    await self.reports.remove(self.services, self.instance)

    async def _reports(self) -> list[HealthReport]:
        # Without what is made of these reports: checked before the first of them, it would stay unhealthy in the cache.
        findings = await self.dependencies.findings(without=GATEWAY)
        statuses = {name: finding.status for name, finding in findings.items()}
        verdict, at = self.dependencies.verdict(findings), self.clock.now()
        return [HealthReport(service, self.instance, verdict, statuses, at) for service in self.services]


def make_gateway_dependency(reports: HealthReports, clock: Clock, services: Sequence[str]) -> Dependency:
    """These services and their dependencies, by their reports. Without a report a service counts as unhealthy."""

    async def check() -> Finding:
        try:
            found = await reports.read(clock.now())
        except StoreUnavailable as error:
            return Finding("unhealthy", {"error": str(error)})
        by_service = {service: [one.status for one in found if one.service == service] for service in services}
        described: dict[str, JsonValue] = {
            service: {"status": _combine(statuses), "instances": len(statuses)}
            for service, statuses in by_service.items()
        }
        dependencies = {name: _combine(statuses) for name, statuses in _statuses_by_dependency(found).items()}
        verdict = worst([*map(_combine, by_service.values()), *dependencies.values()])
        return Finding(verdict, {"services": described, "dependencies": {**dependencies}})

    return Dependency(GATEWAY, check)


def _statuses_by_dependency(reports: Sequence[HealthReport]) -> Mapping[str, list[Status]]:
    names = sorted({name for report in reports for name in report.dependencies})
    return {name: [one.dependencies[name] for one in reports if name in one.dependencies] for name in names}


def _combine(statuses: Sequence[Status]) -> Status:
    """The status that all reports agree on, else degraded; unhealthy without a report."""
    if not statuses:
        return "unhealthy"
    return statuses[0] if len(set(statuses)) == 1 else "degraded"
