"""Puts ingress together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eai_common.service import Parts, Service, ServiceDefinition
from eai_common.store import LatencyStore, TaskStore
from eai_ingress.acceptance import Acceptance
from eai_ingress.estimate import WaitEstimator
from eai_ingress.request import Rules
from eai_ingress.routes import Webhook
from eai_ingress.settings import Settings

__all__ = ["INGRESS"]


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    like_predecessor = settings.http.api_compatibility == "predecessor"
    webhook = Webhook(
        acceptance=Acceptance(
            parts.ids, parts.clock, parts.broker, TaskStore(parts.redis, settings.tasks), parts.metrics
        ),
        estimator=WaitEstimator(LatencyStore(parts.redis), parts.clock),
        rules=Rules(
            providers=frozenset(settings.ingress.agent_providers),
            opaque_user_numbers=like_predecessor,
            callbacks=settings.ingress.callbacks,
        ),
        answers_like_predecessor=like_predecessor,
    )
    yield Service(routes=webhook.routes())


INGRESS = ServiceDefinition("ingress", Settings, _build, needs=frozenset({"rabbitmq"}), serves_clients=True)
"""Without Redis it still accepts, so it only needs the broker."""
