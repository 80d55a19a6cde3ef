"""OpenAI, and whatever speaks its chat API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from eai_agent_router.agent import Agent
from eai_agent_router.failures import OPENAI
from eai_agent_router.json_api import JsonApi, StaticToken, open_http
from eai_agent_router.openai_chat import ChatOptions, OpenAiChat
from eai_agent_router.provider import BaseUrl, ProviderDefinition, ProviderResources, ProviderSettings

__all__ = ["PROVIDER", "OpenAiSettings"]


class OpenAiSettings(ProviderSettings):
    """An OpenAI-compatible chat endpoint; configured once there is a model."""

    model_config = SettingsConfigDict(env_prefix="OPENAI_")

    base_url: BaseUrl = Field(default="https://api.openai.com/v1", description="Address, including the version.")
    api_key: SecretStr = Field(default=SecretStr(""), description="API key. Empty for a server that requires none.")
    model: str = Field(default="", description="Model that answers.")
    system_prompt: str = Field(default="", description="System prompt of each conversation.")
    history_messages: int = Field(default=40, ge=2, le=1000, description="Most earlier messages that the model gets.")
    history_tokens: int = Field(
        default=8000, ge=100, description="Most tokens of earlier messages, estimated at four characters each."
    )
    api_rate_limit: int = Field(
        default=0,
        ge=0,
        description="Turns a minute with the OpenAI-compatible endpoint, of all replicas together; 0: no limit.",
    )

    @property
    def is_configured(self) -> bool:
        return bool(self.model)

    @property
    def calls_a_minute(self) -> int:
        return self.api_rate_limit

    @property
    def chat(self) -> ChatOptions:
        return ChatOptions(self.model, self.system_prompt, self.history_messages, self.history_tokens)


@asynccontextmanager
async def _open(settings: OpenAiSettings, resources: ProviderResources) -> AsyncIterator[Agent]:
    token = StaticToken(settings.api_key.get_secret_value())
    async with open_http() as client:
        api = JsonApi(OPENAI, client, settings.base_url, token, resources.clock)
        yield OpenAiChat(api, resources.conversations, settings.chat, resources.clock)


PROVIDER = ProviderDefinition(OPENAI, OpenAiSettings, _open)
