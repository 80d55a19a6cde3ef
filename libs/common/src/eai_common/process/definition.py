"""What a service is before anything is opened, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from random import Random
from typing import Any, Generic, TypeVar

from starlette.routing import BaseRoute

from eai_common.broker import Broker
from eai_common.clock import Clock
from eai_common.health import Need
from eai_common.http.openapi import Operation
from eai_common.ids import Ids
from eai_common.process.settings import CommonSettings
from eai_common.stage import Stage
from eai_common.store import RedisClient, Wakeups
from eai_common.telemetry import Metrics, Tracing

__all__ = [
    "BrokerResources",
    "ConfiguredService",
    "MissingResource",
    "Resources",
    "Service",
    "ServiceDefinition",
]

SettingsT = TypeVar("SettingsT", bound=CommonSettings)
ResourcesT = TypeVar("ResourcesT", bound="Resources")


@dataclass(frozen=True, slots=True)
class Resources:
    """What every service of a process shares: one of each. All waiting for `wakeups` ends when the drain begins."""

    redis: RedisClient
    wakeups: Wakeups
    clock: Clock
    random: Random
    ids: Ids
    metrics: Metrics
    tracing: Tracing


@dataclass(frozen=True, slots=True)
class BrokerResources(Resources):
    """The resources of a process that publishes or consumes."""

    broker: Broker


class MissingResource(Exception):
    """A service needs a resource that the process does not have; the text names both."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a definition's `build` gives."""

    stages: Sequence[Stage] = ()
    routes: Sequence[BaseRoute] = ()
    operations: Sequence[Operation] = ()  # the API description of the routes that clients call


@dataclass(frozen=True, slots=True)
class ServiceDefinition(Generic[SettingsT, ResourcesT]):
    """A service before anything is opened.

    `needs` are the servers without which it is not ready. One that `serves_clients` must have tokens in production. One
    that `reports_all_services` shows the health reports of all services.
    """

    name: str
    settings: type[SettingsT]
    resources: type[ResourcesT]
    build: Callable[[SettingsT, ResourcesT], AbstractAsyncContextManager[Service]]
    needs: frozenset[Need] = frozenset({"rabbitmq", "redis"})
    serves_clients: bool = False
    reports_all_services: bool = False

    @property
    def uses_broker(self) -> bool:
        return issubclass(self.resources, BrokerResources)

    def open(self, settings: SettingsT, resources: Resources) -> AbstractAsyncContextManager[Service]:
        """Build the service. Raises MissingResource, before anything is built."""
        if not isinstance(resources, self.resources):
            has = {field.name for field in fields(resources)}
            missing = ", ".join(field.name for field in fields(self.resources) if field.name not in has)
            raise MissingResource(f"{self.name} needs a resource that this process does not have: {missing}")
        return self.build(settings, resources)


@dataclass(frozen=True, slots=True)
class ConfiguredService:
    """A definition with its settings. Each has its own types, so whoever goes through several treats them alike."""

    definition: ServiceDefinition[Any, Any]
    settings: CommonSettings
