"""Builds the health of one process from the resources that it has open."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol

from eai_common.broker import Broker
from eai_common.clock import Clock
from eai_common.health.checks import (
    broker_dependency,
    provider_dependencies,
    redis_answers,
    redis_dependency,
    select_dependencies,
)
from eai_common.health.dependencies import Dependencies, Dependency
from eai_common.health.gateway import HealthReporter, gateway_dependency
from eai_common.health.probes import Health, ReadinessCheck
from eai_common.health.reports import HealthReports
from eai_common.health.settings import HealthSettings
from eai_common.ids import Ids
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics
from eai_common.topology import Topology

__all__ = ["HealthResources", "Need", "health_of", "health_reporter", "readiness_checks"]

Need = Literal["rabbitmq", "redis"]


class HealthResources(Protocol):
    """What the health of a process is read from."""

    @property
    def redis(self) -> RedisClient: ...
    @property
    def opened_broker(self) -> Broker | None: ...
    @property
    def broker(self) -> Broker: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def ids(self) -> Ids: ...
    @property
    def metrics(self) -> Metrics: ...


def readiness_checks(needs: frozenset[Need], resources: HealthResources) -> dict[str, ReadinessCheck]:
    """The checks that decide readiness."""

    async def broker_is_ready() -> bool:
        return resources.broker.is_ready

    checks: dict[Need, ReadinessCheck] = {
        "redis": partial(redis_answers, resources.redis),
        "rabbitmq": broker_is_ready,
    }
    return {name: check for name, check in checks.items() if name in needs}


def health_of(
    name: str,
    needs: frozenset[Need],
    resources: HealthResources,
    settings: HealthSettings,
    topology: Topology,
    *,
    reported_services: Sequence[str] = (),
) -> Health:
    """The health of a process that `needs` these; it also reports on `reported_services`, from their own reports."""
    dependencies: list[Dependency] = [redis_dependency(resources.redis, is_needed="redis" in needs)]
    if resources.opened_broker is not None:
        queues = [queue for stage in topology.stage_queues for queue in (stage.name, stage.dead_letter_queue)]
        dependencies.append(broker_dependency(resources.broker, queues, is_needed="rabbitmq" in needs))
    dependencies += provider_dependencies(resources.metrics)
    if reported_services:
        dependencies.append(gateway_dependency(_reports(resources, settings), resources.clock, reported_services))
    return Health(
        name,
        readiness_checks(needs, resources),
        select_dependencies(dependencies, settings, resources.clock),
        is_detailed=settings.enable_detailed_health_checks,
    )


def health_reporter(
    name: str, dependencies: Dependencies, resources: HealthResources, settings: HealthSettings
) -> HealthReporter:
    """What writes the reports of the process `name`."""
    return HealthReporter(
        _reports(resources, settings),
        name,
        resources.ids.random_id(),
        dependencies,
        resources.clock,
        settings.health_check_interval,
    )


def _reports(resources: HealthResources, settings: HealthSettings) -> HealthReports:
    return HealthReports(resources.redis, settings.health_check_interval * 3)
