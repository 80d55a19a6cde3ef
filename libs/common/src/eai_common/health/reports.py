"""Per-process health reports in Redis, so that any process can report on the whole deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson

from eai_common.health.dependencies import Status
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors

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
    """The reports of all processes; one that is not renewed expires after `ttl`. Raises StoreUnavailable."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis.driver
        self._ttl = ttl

    async def write(self, *reports: HealthReport) -> None:
        """Replace the last reports of the same services and instances."""
        bodies: dict[Any, Any] = {f"{report.service}:{report.instance}": _encode(report) for report in reports}
        with map_redis_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(_KEY, mapping=bodies)
                pipeline.expire(_KEY, self._ttl)
                await pipeline.execute()

    async def remove(self, services: Sequence[str], instance: str) -> None:
        """Remove the reports of a process that ends."""
        with map_redis_errors():
            await self._redis.hdel(_KEY, *(f"{service}:{instance}" for service in services))

    async def read(self, now: datetime) -> list[HealthReport]:
        """The reports that have not expired. Deletes those that have."""
        with map_redis_errors():
            found = cast(dict[bytes, bytes], await self._redis.hgetall(_KEY))
            reports = {field: _report(field.decode(), body) for field, body in found.items()}
            if expired := [field for field, report in reports.items() if now - report.at > self._ttl]:
                await self._redis.hdel(_KEY, *expired)
        return [report for field, report in reports.items() if field not in expired]


def _encode(report: HealthReport) -> bytes:
    stored = {"status": report.status, "dependencies": dict(report.dependencies), "at": report.at.timestamp()}
    return orjson.dumps(stored)


def _report(field: str, body: bytes) -> HealthReport:
    service, _, instance = field.partition(":")
    stored = orjson.loads(body)
    at = datetime.fromtimestamp(stored["at"]).astimezone()
    return HealthReport(service, instance, stored["status"], stored["dependencies"], at)
