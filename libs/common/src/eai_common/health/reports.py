"""Per-process health reports in Redis, so that any process can report on the whole deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from eai_common.health.dependencies import Status
from eai_common.store.client import RedisClient
from eai_common.store.commands import Request, as_hash, command, milliseconds

__all__ = ["HealthReport", "HealthReports"]

_KEY = "health:board"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The status of one process and of its dependencies."""

    service: str
    instance: str
    status: Status
    dependencies: Mapping[str, Status]
    at: datetime


class HealthReports:
    """The reports of all processes; one that is not renewed expires after `ttl`."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    def write(self, *reports: HealthReport) -> Request[None]:
        """Replace the last reports of the same services and instances."""
        writing = (command("HSET", _KEY, f"{report.service}:{report.instance}", _encode(report)) for report in reports)
        return self._redis.request(*writing, command("PEXPIRE", _KEY, milliseconds(self._ttl)))

    def remove(self, services: Sequence[str], instance: str) -> Request[None]:
        """Remove the reports of a process that ends."""
        return self._redis.request(command("HDEL", _KEY, *(f"{service}:{instance}" for service in services)))

    async def read(self, now: datetime) -> list[HealthReport]:
        """The reports that have not expired. Deletes those that have. Raises StoreUnavailable."""
        found = await self._redis.request(command("HGETALL", _KEY), decode=lambda replies: as_hash(replies[0]))
        reports = {field: _report(field, body) for field, body in found.items()}
        if expired := [field for field, report in reports.items() if now - report.at > self._ttl]:
            await self._redis.request(command("HDEL", _KEY, *expired))
        return [report for field, report in reports.items() if field not in expired]


def _encode(report: HealthReport) -> bytes:
    stored = {"status": report.status, "dependencies": dict(report.dependencies), "at": report.at.timestamp()}
    return orjson.dumps(stored)


def _report(field: str, body: bytes) -> HealthReport:
    service, _, instance = field.partition(":")
    stored = orjson.loads(body)
    at = datetime.fromtimestamp(stored["at"]).astimezone()
    return HealthReport(service, instance, stored["status"], stored["dependencies"], at)
