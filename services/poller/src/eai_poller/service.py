"""Builds the poller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eai_common.process import Resources, Service, ServiceDefinition
from eai_common.store import ActivityStore, LatencyStore, TaskStore
from eai_poller.description import poller_operations
from eai_poller.lookup import Lookup
from eai_poller.poll_interval import PollInterval
from eai_poller.routes import PollerRoutes
from eai_poller.settings import Settings
from eai_poller.wait_limit import WaitLimit

__all__ = ["POLLER"]


@asynccontextmanager
async def _build(settings: Settings, resources: Resources) -> AsyncIterator[Service]:
    tasks = settings.tasks
    like_predecessor = settings.http.is_like_predecessor
    lookup = Lookup(
        tasks=TaskStore(resources.redis, tasks),
        clock=resources.clock,
        id_key=tasks.message_id_key.get_secret_value().encode(),
        known_for=tasks.task_status_ttl,
    )
    routes = PollerRoutes(
        lookup=lookup,
        wait_limit=WaitLimit(lookup, resources.wakeups, most=settings.poller.max_waiting),
        poll_interval=PollInterval(LatencyStore(resources.redis), resources.clock),
        activity=ActivityStore(resources.redis, tasks.last_activity_ttl),
        opaque_user_numbers=like_predecessor,
        heartbeat=settings.poller.heartbeat,
    )
    yield Service(routes=routes.routes(), operations=poller_operations(like_predecessor=like_predecessor))


POLLER = ServiceDefinition(
    "poller",
    Settings,
    Resources,
    _build,
    needs=frozenset({"redis"}),
    serves_clients=True,
    reports_all_services=True,
)
"""The poller uses only Redis."""
