"""Builds ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from starlette.routing import Route

from eai_common.background import run_alongside
from eai_common.content import ContentRules
from eai_common.process import BrokerResources, Service, ServiceDefinition
from eai_common.store import (
    ActivityStore,
    LatencyStore,
    TaskStore,
)
from eai_common.turns.store import InboxStore
from eai_ingress.acceptance import Acceptance
from eai_ingress.acceptance_store import AcceptanceStore
from eai_ingress.backpressure import Backpressure
from eai_ingress.channel import WebhookAdapter
from eai_ingress.description import ingress_operations
from eai_ingress.estimate import WaitEstimator
from eai_ingress.history import HistoryAdapter, HistoryWebhook
from eai_ingress.idempotency import IdempotencyStore
from eai_ingress.request import RequestRules
from eai_ingress.routes import Webhook
from eai_ingress.settings import Settings

__all__ = ["INGRESS"]

_REFRESH_EVERY = timedelta(seconds=2)
_LEASE_MARGIN = timedelta(seconds=3)
_REDIS_TIMEOUT = timedelta(milliseconds=500)  # a client waits, and the message is accepted without Redis, too


@asynccontextmanager
async def _build(settings: Settings, resources: BrokerResources) -> AsyncIterator[Service]:
    topology, limit = settings.broker.topology, settings.ingress.backpressure_queue_limit
    backpressure = Backpressure(resources.broker, topology, limit=limit, metrics=resources.metrics)
    estimator = WaitEstimator(LatencyStore(resources.redis))
    stop = asyncio.Event()
    async with run_alongside({"ingress/refresh": _refresh(backpressure, estimator, stop)}):
        acceptance = _acceptance(settings, resources, backpressure, estimator)
        try:
            rules = _request_rules(settings)
            yield Service(
                routes=_routes(settings, resources, acceptance, rules),
                operations=ingress_operations(rules, like_predecessor=settings.http.is_like_predecessor),
            )
        finally:
            stop.set()


def _acceptance(
    settings: Settings, resources: BrokerResources, backpressure: Backpressure, estimator: WaitEstimator
) -> Acceptance:
    # No publish takes longer, so once the lease of a key is over, its process has died.
    lease = settings.broker.publish_timeout + _LEASE_MARGIN
    redis = resources.redis.with_timeout(_REDIS_TIMEOUT)
    return Acceptance(
        clock=resources.clock,
        publisher=resources.broker,
        store=AcceptanceStore(
            redis,
            TaskStore(redis, settings.tasks),
            ActivityStore(redis, settings.tasks.last_activity_ttl),
            IdempotencyStore(redis, lease=lease, ttl=settings.ingress.idempotency_ttl),
            InboxStore(redis, settings.ordering.rules, settings.tasks.task_processing_ttl),
            settings.ordering,
        ),
        backpressure=backpressure,
        estimator=estimator,
        metrics=resources.metrics,
        max_wait=lease * 2,
    )


def _routes(settings: Settings, resources: BrokerResources, acceptance: Acceptance, rules: RequestRules) -> list[Route]:
    like_predecessor = settings.http.is_like_predecessor
    webhook = Webhook(acceptance, WebhookAdapter(rules, resources.ids, resources.clock), like_predecessor)
    history = HistoryWebhook(
        acceptance=acceptance,
        channel=HistoryAdapter(rules, resources.ids, resources.clock),
        results=TaskStore(resources.redis, settings.tasks),
        wakeups=resources.wakeups,
        wait=settings.ingress.history_wait,
        answers_like_predecessor=like_predecessor,
    )
    return [*webhook.routes(), *history.routes()]


def _request_rules(settings: Settings) -> RequestRules:
    return RequestRules(
        providers=frozenset(settings.ingress.agent_providers),
        opaque_user_numbers=settings.http.is_like_predecessor,
        callbacks=settings.ingress.callbacks,
        content=ContentRules(is_strict=settings.security.content_check == "strict"),
    )


async def _refresh(backpressure: Backpressure, estimator: WaitEstimator, stop: asyncio.Event) -> None:
    """Run until `stop` is set, or until cancelled."""
    while not stop.is_set():
        await backpressure.refresh()
        await estimator.refresh(backpressure.waiting())
        await asyncio.sleep(_REFRESH_EVERY.total_seconds())


INGRESS = ServiceDefinition(
    "ingress", Settings, BrokerResources, _build, needs=frozenset({"rabbitmq"}), serves_clients=True
)
"""Ingress accepts without Redis, so it needs only the broker."""
