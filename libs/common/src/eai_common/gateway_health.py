"""How the whole gateway is: every process writes down how it is, and the poller reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from pydantic import JsonValue

from eai_common.clock import Clock
from eai_common.health import Dependencies, Dependency, Finding, Status, worst
from eai_common.store import HealthBoard, Note, StoreUnavailable

__all__ = ["GATEWAY", "HealthWriter", "gateway_dependency"]

GATEWAY = "gateway"
"""The name of what is made of everybody's notes."""

_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class HealthWriter:
    """Keeps a process's note on the board true."""

    board: HealthBoard
    service: str
    instance: str
    dependencies: Dependencies
    clock: Clock
    interval: timedelta

    async def run(self) -> NoReturn:
        """Write now, and again and again, until cancelled; then take the note down."""
        try:
            while True:
                with suppress(StoreUnavailable):  # Redis' own health tells
                    await self.board.write(await self._note())
                await asyncio.sleep(self.interval.total_seconds())
        finally:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await self.board.take_down(self.service, self.instance)

    async def _note(self) -> Note:
        findings = await self.dependencies.findings()
        findings.pop(GATEWAY, None)  # made of these notes: it would speak of itself
        statuses = {name: finding.status for name, finding in findings.items()}
        return Note(self.service, self.instance, self.dependencies.verdict(findings), statuses, self.clock.now())


def gateway_dependency(board: HealthBoard, clock: Clock, services: Sequence[str]) -> Dependency:
    """These services and what they depend on, by their notes. A service without any is down, or cannot reach Redis."""

    async def look() -> Finding:
        try:
            notes = await board.read(clock.now())
        except StoreUnavailable as error:
            return Finding("unhealthy", {"error": str(error)})
        found = {service: [note.status for note in notes if note.service == service] for service in services}
        told: dict[str, JsonValue] = {
            service: {"status": _together(statuses), "instances": len(statuses)} for service, statuses in found.items()
        }
        dependencies = {name: _together(statuses) for name, statuses in _of_dependencies(notes).items()}
        verdict = worst([_together(statuses) for statuses in found.values()] + [*dependencies.values()])
        return Finding(verdict, {"services": told, "dependencies": {**dependencies}})

    return Dependency(GATEWAY, look)


def _of_dependencies(notes: Sequence[Note]) -> Mapping[str, list[Status]]:
    names = sorted({name for note in notes for name in note.dependencies})
    return {name: [note.dependencies[name] for note in notes if name in note.dependencies] for name in names}


def _together(statuses: Sequence[Status]) -> Status:
    """Of several that saw it: what all saw, else degraded. Nobody saw it: unhealthy."""
    if not statuses:
        return "unhealthy"
    return statuses[0] if len(set(statuses)) == 1 else "degraded"
