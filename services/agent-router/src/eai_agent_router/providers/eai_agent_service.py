"""EAI Agent Service, and the Letta server behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr

from eai_agent_router.agent import Agent
from eai_agent_router.eai_service import EaiAgents, LettaAgent, NewAgent
from eai_agent_router.json_api import JsonApi, StaticToken, open_http
from eai_agent_router.provider import BaseUrl, ProviderDefinition, ProviderResources, ProviderSettings

__all__ = ["PROVIDER", "EaiSettings"]

_NAME = "eai_agent_service"


class EaiSettings(ProviderSettings):
    """EAI Agent Service and the Letta server behind it; configured once there is an address."""

    eai_agent_service_url: BaseUrl = Field(default="", description="Address of the service that creates agents.")
    eai_agent_service_token: SecretStr = Field(default=SecretStr(""), description="Bearer token for both addresses.")
    letta_api_url: BaseUrl = Field(
        default="", description="Address of the service that agents answer at. Empty: EAI_AGENT_SERVICE_URL."
    )
    eai_agent_type: str = Field(
        default="agentic_search", description="Type of the agent that is created for a new user."
    )
    eai_agent_model: str = Field(default="", description="Model of a new agent. Empty: the service's default.")
    eai_api_rate_limit: int = Field(
        default=0, ge=0, description="Turns a minute with the EAI Agent Service, of all replicas together; 0: no limit."
    )

    @property
    def is_configured(self) -> bool:
        return bool(self.eai_agent_service_url)

    @property
    def calls_a_minute(self) -> int:
        return self.eai_api_rate_limit

    @property
    def new_agent(self) -> NewAgent:
        return NewAgent(self.eai_agent_type, self.eai_agent_model or None)


@asynccontextmanager
async def _open(settings: EaiSettings, resources: ProviderResources) -> AsyncIterator[Agent]:
    token, clock = StaticToken(settings.eai_agent_service_token.get_secret_value()), resources.clock
    letta_url = settings.letta_api_url or settings.eai_agent_service_url
    async with open_http() as to_service, open_http() as to_letta:
        service = JsonApi(_NAME, to_service, settings.eai_agent_service_url, token, clock)
        agents = EaiAgents(service, resources.agent_ids, settings.new_agent)
        yield LettaAgent(agents, JsonApi(_NAME, to_letta, letta_url, token, clock), clock)


PROVIDER = ProviderDefinition(_NAME, EaiSettings, _open)
