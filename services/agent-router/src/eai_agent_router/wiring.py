"""Opens the agents of the providers that are configured, and closes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from eai_agent_router.agent import Agent
from eai_agent_router.provider import ProviderResources, ProviderSettings, load_providers
from eai_agent_router.settings import AgentSettings
from eai_common.settings import SettingsError

__all__ = ["open_agents"]


@asynccontextmanager
async def open_agents(settings: AgentSettings, resources: ProviderResources) -> AsyncIterator[Mapping[str, Agent]]:
    """The agents by provider.

    Raises SettingsError if the default provider or a fallback is not configured, or if a provider cannot be opened.
    """
    async with AsyncExitStack() as stack:
        agents: dict[str, Agent] = {}
        for name, definition in load_providers().items():
            group = settings.providers.of(name, ProviderSettings)
            if group.is_configured:
                agents[name] = await stack.enter_async_context(definition.open(group, resources))
        _check_configured(settings, agents)
        yield agents


def _check_configured(settings: AgentSettings, agents: Mapping[str, Agent]) -> None:
    default, configured = settings.router.agent_provider, ", ".join(sorted(agents))
    if default not in agents:
        takes = configured or "none is, see GOOGLE_AGENT_ENGINE_ID"
        raise SettingsError([f'AGENT_PROVIDER: got "{default}", takes a provider that is configured: {takes}'])
    if missing := [name for name in settings.guards.agent_fallback if name not in agents]:
        got = ",".join(missing)
        raise SettingsError([f'AGENT_FALLBACK: got "{got}", takes providers that are configured: {configured}'])
