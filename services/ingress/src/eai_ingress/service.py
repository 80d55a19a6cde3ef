"""Puts ingress together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from eai_common.background import run_alongside
from eai_common.content import ContentRules
from eai_common.service import Parts, Service, ServiceDefinition
from eai_common.store import (
    ActivityStore,
    CommandBatcher,
    IdempotencyStore,
    LatencyStore,
    Mailboxes,
    TaskStore,
    open_batcher,
)
from eai_ingress.acceptance import Acceptance
from eai_ingress.books import Books
from eai_ingress.description import ingress_operations
from eai_ingress.estimate import WaitEstimator
from eai_ingress.history import HistoryWebhook
from eai_ingress.pressure import Pressure
from eai_ingress.request import Rules
from eai_ingress.routes import Webhook
from eai_ingress.settings import Settings

__all__ = ["INGRESS"]

_LOOK_EVERY = timedelta(seconds=2)
_LEASE_MARGIN = timedelta(seconds=3)


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    topology, limit = settings.broker.topology, settings.ingress.backpressure_queue_limit
    pressure = Pressure(parts.broker, topology, limit=limit, metrics=parts.metrics)
    estimator = WaitEstimator(LatencyStore(parts.redis))
    stop = asyncio.Event()
    async with (
        open_batcher(parts.redis) as batcher,
        run_alongside({"ingress/outlook": _keep_looking(pressure, estimator, stop)}),
    ):
        acceptance = _acceptance(settings, parts, batcher, pressure, estimator)
        try:
            webhook = _webhook(settings, acceptance)
            history = HistoryWebhook(
                acceptance=acceptance,
                results=TaskStore(parts.redis, settings.tasks),
                wakeups=parts.wakeups,
                rules=webhook.rules,
                wait=settings.ingress.history_wait,
                answers_like_predecessor=webhook.answers_like_predecessor,
            )
            operations = ingress_operations(webhook.rules, like_predecessor=webhook.answers_like_predecessor)
            yield Service(routes=[*webhook.routes(), *history.routes()], operations=operations)
        finally:
            stop.set()


def _acceptance(
    settings: Settings, parts: Parts, batcher: CommandBatcher, pressure: Pressure, estimator: WaitEstimator
) -> Acceptance:
    # No publish takes longer, so a key whose lease is over is one whose process has died.
    lease = settings.broker.publish_timeout + _LEASE_MARGIN
    return Acceptance(
        ids=parts.ids,
        clock=parts.clock,
        publisher=parts.broker,
        books=Books(
            batcher,
            TaskStore(parts.redis, settings.tasks),
            ActivityStore(parts.redis, settings.tasks.last_activity_ttl),
            IdempotencyStore(lease=lease, ttl=settings.ingress.idempotency_ttl),
            Mailboxes(parts.redis, settings.tasks.task_processing_ttl) if settings.ordering.ordering_enabled else None,
        ),
        pressure=pressure,
        estimator=estimator,
        metrics=parts.metrics,
        patience=lease * 2,
    )


def _webhook(settings: Settings, acceptance: Acceptance) -> Webhook:
    like_predecessor = settings.http.api_compatibility == "predecessor"
    return Webhook(
        acceptance=acceptance,
        rules=Rules(
            providers=frozenset(settings.ingress.agent_providers),
            opaque_user_numbers=like_predecessor,
            callbacks=settings.ingress.callbacks,
            content=ContentRules(is_strict=settings.protection.content_check == "strict"),
        ),
        answers_like_predecessor=like_predecessor,
    )


async def _keep_looking(pressure: Pressure, estimator: WaitEstimator, stop: asyncio.Event) -> None:
    """Until `stop` and a cancellation."""
    while not stop.is_set():
        await pressure.look()
        await estimator.refresh(pressure.waiting())
        await asyncio.sleep(_LOOK_EVERY.total_seconds())


INGRESS = ServiceDefinition("ingress", Settings, _build, needs=frozenset({"rabbitmq"}), serves_clients=True)
"""Without Redis it still accepts, so it only needs the broker."""
