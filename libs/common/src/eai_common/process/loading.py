"""Loads the services of the registry and their settings, and reports every mistake at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from eai_common.process.definition import ConfiguredService, Resources, ServiceDefinition
from eai_common.process.settings import CommonSettings
from eai_common.registry import list_service_names, services
from eai_common.settings import SettingsError, load

__all__ = ["load_all", "load_services", "load_settings"]

SettingsT = TypeVar("SettingsT", bound=CommonSettings)
ResourcesT = TypeVar("ResourcesT", bound=Resources)


def load_services() -> tuple[ServiceDefinition[Any, Any], ...]:
    """The services of the registry, in its order. Raises TypeError for a line that names something else."""
    loaded = services()
    for definition, name in zip(loaded, list_service_names(), strict=True):
        if not isinstance(definition, ServiceDefinition) or definition.name != name:
            raise TypeError(f"the registry's line for {name} names no ServiceDefinition of that name")
    return tuple(definition for definition in loaded if isinstance(definition, ServiceDefinition))


def load_settings(definition: ServiceDefinition[SettingsT, ResourcesT], environ: Mapping[str, str]) -> SettingsT:
    """The settings of a process of its own. Raises SettingsError, also for what such a process must have."""
    mistakes: list[str] = []
    try:
        mistakes += _missing(definition, load(CommonSettings, environ))
    except SettingsError as error:
        mistakes += error.mistakes
    try:
        settings = load(definition.settings, environ)
    except SettingsError as error:
        mistakes += [line for line in error.mistakes if line not in mistakes]
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def load_all(definitions: Iterable[ServiceDefinition[Any, Any]], environ: Mapping[str, str]) -> list[ConfiguredService]:
    """Each definition with its settings. Raises SettingsError with the mistakes of all, each once."""
    mistakes: list[str] = []
    loaded: list[ConfiguredService] = []
    for definition in definitions:
        try:
            loaded.append(ConfiguredService(definition, load(definition.settings, environ)))
        except SettingsError as error:
            mistakes += [line for line in error.mistakes if line not in mistakes]
    if mistakes:
        raise SettingsError(mistakes)
    return loaded


def _missing(definition: ServiceDefinition[SettingsT, ResourcesT], settings: CommonSettings) -> list[str]:
    """A line for each setting that a process needs and does not have."""
    mistakes = []
    if definition.uses_broker and not settings.broker.url.get_secret_value():
        mistakes.append("RABBITMQ_URL: is required, takes an address such as amqp://user:password@host:5672/")
    if not settings.redis.url.get_secret_value():
        mistakes.append("REDIS_URL: is required, takes an address such as redis://host:6379/0")
    is_in_production = settings.process.environment == "production"
    if definition.serves_clients and is_in_production and not (settings.http.tokens or settings.jwt.is_used):
        mistakes.append("API_TOKEN: is required in production without JWTs, takes tokens separated by commas")
    return mistakes
