"""Builds the health of one process from the resources that it has open."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol

from eai_common.broker import Broker
from eai_common.clock import Clock
from eai_common.health.checks import (
    make_broker_dependency,
    make_provider_dependencies,
    make_redis_dependency,
    redis_answers,
    select_dependencies,
)
from eai_common.health.dependencies import Dependencies, Dependency
from eai_common.health.gateway import HealthReporter, make_gateway_dependency
from eai_common.health.probes import Health, ReadinessCheck
from eai_common.health.reports import HealthReports
from eai_common.health.settings import HealthSettings
from eai_common.ids import Ids
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics

__all__ = ["HealthResources", "Need", "build_health", "build_health_reporter", "make_readiness_checks"]

Need = Literal["rabbitmq", "redis"]


class HealthResources(Protocol):
    """What the health of a process is read from."""

    @property
    def redis(self) -> RedisClient: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def ids(self) -> Ids: ...
    @property
    def metrics(self) -> Metrics: ...


def make_readiness_checks(
    needs: frozenset[Need], redis: RedisClient, broker: Broker | None
) -> dict[str, ReadinessCheck]:
    """The checks that decide readiness. A process without a broker is ready without one."""
    checks: dict[str, ReadinessCheck] = {"redis": partial(redis_answers, redis)} if "redis" in needs else {}
    if broker is not None and "rabbitmq" in needs:
        checks["rabbitmq"] = partial(_is_ready, broker)
    return checks


def build_health(
    name: str,
    needs: frozenset[Need],
    resources: HealthResources,
    settings: HealthSettings,
    *,
    broker: Broker | None = None,
    queues: Sequence[str] = (),
    reported_services: Sequence[str] = (),
) -> Health:
    """The health of a process that `needs` these; it also reports on `reported_services`, from their own reports."""
    dependencies: list[Dependency] = [make_redis_dependency(resources.redis, is_needed="redis" in needs)]
    if broker is not None:
        dependencies.append(make_broker_dependency(broker, queues, is_needed="rabbitmq" in needs))
    dependencies += make_provider_dependencies(resources.metrics)
    if reported_services:
        dependencies.append(make_gateway_dependency(_reports(resources, settings), resources.clock, reported_services))
    return Health(
        name,
        make_readiness_checks(needs, resources.redis, broker),
        select_dependencies(dependencies, settings, resources.clock),
        is_detailed=settings.enable_detailed_health_checks,
    )


def build_health_reporter(
    services: Sequence[str], dependencies: Dependencies, resources: HealthResources, settings: HealthSettings
) -> HealthReporter:
    """What writes the reports of a process that runs these services."""
    return HealthReporter(
        _reports(resources, settings),
        services,
        resources.ids.random_id(),
        dependencies,
        resources.clock,
        settings.health_check_interval,
    )


async def _is_ready(broker: Broker) -> bool:
    return broker.is_ready


def _reports(resources: HealthResources, settings: HealthSettings) -> HealthReports:
    return HealthReports(resources.redis, settings.health_check_interval * 3)
