"""Builds the agents of the providers that are configured, and closes them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from eai_agent_router.agent import Agent, Provider
from eai_agent_router.agent_engine_rest import AgentEngineRest
from eai_agent_router.eai_service import EaiAgents, LettaAgent
from eai_agent_router.google_token import GoogleToken
from eai_agent_router.json_api import Authorization, JsonApi, NoAuthorization, StaticToken, open_http
from eai_agent_router.openai_chat import OpenAiChat
from eai_agent_router.ports import AgentIds, Conversations
from eai_agent_router.settings import AgentEngineSettings, AgentSettings, EaiSettings, OpenAiSettings
from eai_common.clock import Clock
from eai_common.guards.google import read_google_credentials
from eai_common.settings import SettingsError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["open_agents"]


@asynccontextmanager
async def open_agents(
    settings: AgentSettings, *, agent_ids: AgentIds, conversations: Conversations, clock: Clock
) -> AsyncIterator[Mapping[str, Agent]]:
    """The agents by provider. Raises SettingsError if the default provider is not among them, or if Google's
    credentials cannot be read."""
    async with AsyncExitStack() as stack:
        agents: dict[str, Agent] = {}
        if settings.agent_engine.is_configured:
            agents[Provider.GOOGLE_AGENT_ENGINE] = await _agent_engine(settings.agent_engine, clock, stack)
        if settings.eai.is_configured:
            agents[Provider.EAI_AGENT_SERVICE] = await _eai(settings.eai, agent_ids, clock, stack)
        if settings.openai.is_configured:
            agents[Provider.OPENAI] = await _openai(settings.openai, conversations, clock, stack)
        if settings.router.agent_provider not in agents:
            configured = ", ".join(sorted(agents)) or "none is, see GOOGLE_AGENT_ENGINE_ID"
            got: str = settings.router.agent_provider
            raise SettingsError([f'AGENT_PROVIDER: got "{got}", takes a provider that is configured: {configured}'])
        if missing := [name for name in settings.guards.agent_fallback if name not in agents]:
            got, configured = ",".join(missing), ", ".join(sorted(agents))
            raise SettingsError([f'AGENT_FALLBACK: got "{got}", takes providers that are configured: {configured}'])
        yield agents


async def _agent_engine(settings: AgentEngineSettings, clock: Clock, stack: AsyncExitStack) -> Agent:
    method = settings.agent_engine_class_method
    if settings.agent_engine_transport == "rest":
        scheme = "http" if settings.is_local else "https"
        url, token = f"{scheme}://{settings.host}", await _google(settings)
        api = await _api(Provider.GOOGLE_AGENT_ENGINE, url, token, clock, stack)
        return AgentEngineRest(api, settings.engines, clock, class_method=method)
    # Here and not above: gRPC and Google's client are 0.7 s and 40 MB that a deployment without them does not pay.
    # In a thread first, so that what runs beside us in `./eai up` does not stand still meanwhile.
    await asyncio.to_thread(importlib.import_module, "eai_agent_router.agent_engine_grpc")
    from eai_agent_router.agent_engine_grpc import AgentEngineGrpc, open_queries

    credentials = None if settings.is_local else await _credentials(settings)
    queries = await stack.enter_async_context(open_queries(settings.host, credentials))
    return AgentEngineGrpc(queries, settings.engines, clock, class_method=method)


async def _google(settings: AgentEngineSettings) -> Authorization:
    if settings.is_local:
        return NoAuthorization()
    return GoogleToken(await _credentials(settings))


async def _credentials(settings: AgentEngineSettings) -> Credentials:
    return await asyncio.to_thread(read_google_credentials, settings.google_application_credentials.get_secret_value())


async def _eai(settings: EaiSettings, agent_ids: AgentIds, clock: Clock, stack: AsyncExitStack) -> Agent:
    token = StaticToken(settings.eai_agent_service_token.get_secret_value())
    service = await _api(Provider.EAI_AGENT_SERVICE, settings.eai_agent_service_url, token, clock, stack)
    letta_url = settings.letta_api_url or settings.eai_agent_service_url
    letta = await _api(Provider.EAI_AGENT_SERVICE, letta_url, token, clock, stack)
    return LettaAgent(EaiAgents(service, agent_ids, settings.new_agent), letta, clock)


async def _openai(settings: OpenAiSettings, conversations: Conversations, clock: Clock, stack: AsyncExitStack) -> Agent:
    token = StaticToken(settings.api_key.get_secret_value())
    api = await _api(Provider.OPENAI, settings.base_url, token, clock, stack)
    return OpenAiChat(api, conversations, settings.chat, clock)


async def _api(
    provider: Provider, url: str, authorization: Authorization, clock: Clock, stack: AsyncExitStack
) -> JsonApi:
    return JsonApi(provider, await stack.enter_async_context(open_http()), url, authorization, clock)
