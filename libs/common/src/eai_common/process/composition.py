"""Builds a process out of services and resources: the one place that puts stages, routes, health and HTTP together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from eai_common.health import Health, Need, bind_pool_gauges, build_health, make_probe_routes
from eai_common.http import HttpResources, SecurityPolicy, build_app, make_api_docs_routes, open_security_policy
from eai_common.process.definition import BrokerResources, ConfiguredService, MissingResource, Resources, Service
from eai_common.process.settings import CommonSettings
from eai_common.registry import bindings, list_service_names
from eai_common.stage import Stage, StageResources

__all__ = ["Process", "open_process"]


@dataclass(frozen=True, slots=True)
class Process:
    """What was built, ready to run. `settings` are those of its first service; each stage has its own service's."""

    name: str
    settings: CommonSettings
    resources: Resources
    services: Sequence[tuple[ConfiguredService, Service]]
    stages: Sequence[tuple[Stage, StageResources]]
    health: Health
    policy: SecurityPolicy
    routes: Sequence[BaseRoute]
    app: ASGIApp


@asynccontextmanager
async def open_process(
    name: str, configured: Sequence[ConfiguredService], resources: Resources
) -> AsyncIterator[Process]:
    """Build the services and what they share; close them in reverse order.

    Raises MissingResource, and what a service's `build` raises: SettingsError for one.
    """
    settings = configured[0].settings
    async with AsyncExitStack() as stack:
        services = [
            (one, await stack.enter_async_context(one.definition.open(one.settings, resources))) for one in configured
        ]
        stages = [pair for one, service in services for pair in _stages(one, service, resources)]
        policy = await stack.enter_async_context(
            open_security_policy(settings, redis=resources.redis, clock=resources.clock, metrics=resources.metrics)
        )
        bind_pool_gauges(resources.redis, resources.metrics)
        health = _health(name, configured, resources)
        routes = _routes(name, services, resources, health, has_auth=not policy.access.is_open)
        http = HttpResources(
            resources.ids, resources.metrics, resources.tracing, settings.http, settings.telemetry, policy
        )
        yield Process(name, settings, resources, services, stages, health, policy, routes, build_app(routes, http))


def _stages(one: ConfiguredService, service: Service, resources: Resources) -> list[tuple[Stage, StageResources]]:
    """The service's stages with what they run on. Raises MissingResource."""
    if not service.stages:
        return []
    name = one.definition.name
    if not isinstance(resources, BrokerResources):
        raise MissingResource(f"{name} has stages, and this process has no broker")
    for stage in service.stages:
        _check_queue(stage, name)
    parts = StageResources(
        broker=resources.broker,
        redis=resources.redis,
        clock=resources.clock,
        random=resources.random,
        ids=resources.ids,
        metrics=resources.metrics,
        tracing=resources.tracing,
        broker_settings=one.settings.broker,
        worker_settings=one.settings.worker,
        task_settings=one.settings.tasks,
        process_settings=one.settings.process,
    )
    return [(stage, parts) for stage in service.stages]


def _check_queue(stage: Stage, service: str) -> None:
    """Raises MissingResource if the stage has no queue, or one that an event never enters that it handles."""
    consumed = bindings().get(stage.name)
    if consumed is None:
        raise MissingResource(f"{service} has a stage without a queue: {stage.name}")
    if missed := [handler.event.name for handler in stage.handlers if handler.event.name not in consumed]:
        raise MissingResource(f"the queue of {stage.name} never gets an event that it handles: {', '.join(missed)}")


def _health(name: str, configured: Sequence[ConfiguredService], resources: Resources) -> Health:
    settings = configured[0].settings
    needs: frozenset[Need] = frozenset().union(*(one.definition.needs for one in configured))
    own = [one.definition.name for one in configured if one.definition.reports_all_services]
    return build_health(
        name,
        needs,
        resources,
        settings.health,
        broker=resources.broker if isinstance(resources, BrokerResources) else None,
        queues=[name for queue in settings.broker.topology.stage_queues for name in queue.names],
        reported_services=[service for service in list_service_names() if service not in own] if own else (),
    )


def _routes(
    name: str,
    services: Sequence[tuple[ConfiguredService, Service]],
    resources: Resources,
    health: Health,
    *,
    has_auth: bool,
) -> list[BaseRoute]:
    """The services' own routes, the API description and the probes."""
    telemetry = services[0][0].settings.telemetry
    docs = make_api_docs_routes(
        [operation for _, service in services for operation in service.operations],
        title="EAI gateway" if len(services) > 1 else f"EAI gateway: {name}",
        has_auth=has_auth,
    )
    metrics_path = telemetry.metrics_path if telemetry.prometheus_enabled else None
    own = [route for _, service in services for route in service.routes]
    return [*own, *docs, *make_probe_routes(health, resources.metrics, metrics_path)]
