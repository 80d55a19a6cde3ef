"""What a provider is to the agent router, before anything of it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, WithJsonSchema

from eai_agent_router.agent import Agent
from eai_agent_router.guards import TargetOf
from eai_agent_router.ports import AgentIds, Conversations
from eai_common.clock import Clock
from eai_common.registry import load_provider_definitions
from eai_common.settings import Group, GroupSet

__all__ = [
    "BaseUrl",
    "ProviderDefinition",
    "ProviderGroups",
    "ProviderResources",
    "ProviderSettings",
    "load_providers",
    "use_one_target",
]


def _base_url(value: str) -> str:
    if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
        raise ValueError("not an http(s) address")
    return value.rstrip("/")


BaseUrl = Annotated[
    str, AfterValidator(_base_url), WithJsonSchema({"type": "string", "takes": "an http:// or https:// address"})
]


class ProviderSettings(Group):
    """The settings of one provider."""

    @property
    def is_configured(self) -> bool:
        """Whether this deployment has the provider."""
        raise NotImplementedError

    @property
    def calls_a_minute(self) -> int:
        """Most calls, of all replicas together; 0 for no limit."""
        return 0


SettingsT = TypeVar("SettingsT", bound=ProviderSettings)


@dataclass(frozen=True, slots=True)
class ProviderResources:
    """What a provider's agent may use of the process."""

    agent_ids: AgentIds
    conversations: Conversations
    clock: Clock


def use_one_target(name: str, settings: ProviderSettings) -> TargetOf:
    """Return one name for all turns, so that the provider has one breaker."""
    return lambda engine: name


@dataclass(frozen=True, slots=True)
class ProviderDefinition(Generic[SettingsT]):
    """A provider. `open` raises SettingsError for what it cannot use; `targets` names what has a breaker of its own."""

    name: str
    settings: type[SettingsT]
    open: Callable[[SettingsT, ProviderResources], AbstractAsyncContextManager[Agent]]
    targets: Callable[[str, SettingsT], TargetOf] = use_one_target


class ProviderGroups(GroupSet):
    """The settings of every registered provider, by its name."""

    @classmethod
    def members(cls) -> Mapping[str, type[Group]]:
        return {name: definition.settings for name, definition in load_providers().items()}


def load_providers() -> Mapping[str, ProviderDefinition[Any]]:
    """Load the registered providers of agents. Raises TypeError for a line that names something else."""
    found = {}
    for name, definition in load_provider_definitions("agent").items():
        if not isinstance(definition, ProviderDefinition) or definition.name != name:
            raise TypeError(f"the registry's line for {name} names no ProviderDefinition of that name")
        found[name] = definition
    return found
