"""Puts the poller together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eai_common.http import TokenGuard
from eai_common.service import Parts, Service, ServiceDefinition
from eai_common.store import TaskStore
from eai_poller.routes import Poll
from eai_poller.settings import Settings

__all__ = ["POLLER"]


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    poll = Poll(
        tasks=TaskStore(parts.redis, settings.tasks),
        clock=parts.clock,
        guard=TokenGuard(settings.http.tokens),
        id_key=settings.tasks.message_id_key.get_secret_value().encode(),
        known_for=settings.tasks.task_status_ttl,
    )
    yield Service(routes=poll.routes())


POLLER = ServiceDefinition(
    "poller", Settings, _build, uses=frozenset({"redis"}), needs=frozenset({"redis"}), serves_clients=True
)
"""It reads Redis and nothing else."""
