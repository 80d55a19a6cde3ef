"""Where each process writes down how it is, so that one that is asked can tell of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import orjson

from eai_common.health import Status
from eai_common.store.client import Redis, store_errors

__all__ = ["HealthBoard", "Note"]

_KEY = "health:board"


@dataclass(frozen=True, slots=True)
class Note:
    """How one process was: itself, and what it depends on."""

    service: str
    instance: str
    status: Status
    dependencies: Mapping[str, Status]
    at: datetime


class HealthBoard:
    """The notes of all processes; one that is not renewed counts no more after `ttl`. Raises StoreUnavailable."""

    def __init__(self, redis: Redis, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl = ttl

    async def write(self, note: Note) -> None:
        """Put up the process's note instead of its last one."""
        body = {"status": note.status, "dependencies": dict(note.dependencies), "at": note.at.timestamp()}
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(_KEY, f"{note.service}:{note.instance}", orjson.dumps(body))
                pipeline.expire(_KEY, self._ttl)
                await pipeline.execute()

    async def take_down(self, service: str, instance: str) -> None:
        """The process ends."""
        with store_errors():
            await self._redis.hdel(_KEY, f"{service}:{instance}")

    async def read(self, now: datetime) -> list[Note]:
        """The notes that count."""
        with store_errors():
            found = cast(dict[bytes, bytes], await self._redis.hgetall(_KEY))
            notes = {field: _note(field.decode(), body) for field, body in found.items()}
            if old := [field for field, note in notes.items() if now - note.at > self._ttl]:
                await self._redis.hdel(_KEY, *old)
        return [note for field, note in notes.items() if field not in old]


def _note(field: str, body: bytes) -> Note:
    service, _, instance = field.partition(":")
    told = orjson.loads(body)
    at = datetime.fromtimestamp(told["at"]).astimezone()
    return Note(service, instance, told["status"], told["dependencies"], at)
