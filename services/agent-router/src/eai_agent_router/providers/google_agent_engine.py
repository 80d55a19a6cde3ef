"""Google Agent Engine, over gRPC or REST."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from eai_agent_router.agent import Agent
from eai_agent_router.agent_engine import Engines
from eai_agent_router.agent_engine_rest import AgentEngineRest
from eai_agent_router.errors import AgentBadRequest
from eai_agent_router.failures import GOOGLE
from eai_agent_router.google_token import GoogleToken
from eai_agent_router.guards import TargetOf, engine_targets
from eai_agent_router.json_api import Authorization, JsonApi, StaticToken, open_http
from eai_agent_router.provider import ProviderDefinition, ProviderResources, ProviderSettings
from eai_common.guards.google import is_sandbox, read_google_credentials
from eai_common.settings import Items, SandboxHost

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["PROVIDER", "AgentEngineSettings"]

_ENGINE = r"^([0-9]{1,30}|projects/[^/]+/locations/[^/]+/reasoningEngines/[0-9]{1,30})?$"


def _split(endpoint: str) -> SplitResult:
    return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")


def _endpoint(value: str) -> str:
    parts = _split(value)
    if value and (not parts.hostname or parts.path.strip("/")):
        raise ValueError("not an endpoint")
    return value.rstrip("/")


Endpoint = Annotated[
    str,
    AfterValidator(_endpoint),
    WithJsonSchema(
        {"type": "string", "takes": "host:port or https://host:port, http:// only for this machine and SANDBOX_HOST"}
    ),
]


EngineName = Annotated[
    str,
    Field(pattern=_ENGINE),
    WithJsonSchema({"type": "string", "takes": "digits, or projects/…/locations/…/reasoningEngines/ and digits"}),
]


class AgentEngineSettings(ProviderSettings):
    """Google Agent Engine; configured once there is an engine."""

    google_project_id: str = Field(
        default="", pattern=r"^([a-z0-9][a-z0-9.:-]*)?$", description="Project of the calls, which also pays for them."
    )
    google_region: str = Field(
        default="us-central1", pattern=r"^[a-z0-9-]+$", description="Region of Google's services."
    )
    google_agent_engine_id: EngineName = Field(
        default="", description="Engine for messages that name none: digits or its full name."
    )
    google_application_credentials: SecretStr = Field(
        default=SecretStr(""),
        description="Path of a service account's key, or the key's JSON. Empty: the identity of the machine.",
    )
    agent_engine_transport: Literal["grpc", "rest"] = Field(
        default="grpc",
        description="rest for networks that do not allow gRPC. It also supports long-running operations.",
    )
    agent_engine_endpoint: Endpoint = Field(
        default="", description="Endpoint instead of Google's. On this machine (a sandbox) without TLS or credentials."
    )
    sandbox_host: SandboxHost = ""
    agent_engine_class_method: str = Field(
        default="async_query", pattern=r"^\w+$", description="Method of the deployed agent that answers."
    )
    agent_engine_allowed_ids: Items = Field(
        default=(), description="Engines that a message may name, besides the default one. Empty: all of the project."
    )

    google_api_rate_limit: int = Field(
        default=100, ge=0, description="Calls a minute to one service of Google, of all replicas together; 0: no limit."
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> AgentEngineSettings:
        if self.google_agent_engine_id and not self.google_project_id:
            raise ValueError("GOOGLE_PROJECT_ID: is required, takes a project's id, when GOOGLE_AGENT_ENGINE_ID is set")
        if _split(self.agent_engine_endpoint).scheme == "http" and not self.is_local:
            # Plain http would show our token to everybody on the way.
            takes = "host:port or https://host:port, http:// only for this machine and SANDBOX_HOST"
            raise ValueError(f'AGENT_ENGINE_ENDPOINT: got "{self.agent_engine_endpoint}", takes {takes}')
        self._check_engines("GOOGLE_AGENT_ENGINE_ID", self.google_agent_engine_id)
        self._check_engines("AGENT_ENGINE_ALLOWED_IDS", *self.agent_engine_allowed_ids)
        return self

    def _check_engines(self, variable: str, *names: str) -> None:
        try:
            for name in filter(None, names):
                self.engines.engine_id(name)
        except AgentBadRequest as error:
            takes = f"{self.engines.parent}/reasoningEngines/"
            raise ValueError(f'{variable}: got "{",".join(names)}", takes digits, or {takes} and digits') from error

    @property
    def is_configured(self) -> bool:
        return bool(self.google_agent_engine_id)

    @property
    def calls_a_minute(self) -> int:
        return self.google_api_rate_limit

    @property
    def host(self) -> str:
        """`host[:port]` to ask, without a scheme."""
        given = self.agent_engine_endpoint
        if given:
            return given.partition("//")[2] or given
        is_global = self.google_region == "global"
        return "aiplatform.googleapis.com" if is_global else f"{self.google_region}-aiplatform.googleapis.com"

    @property
    def is_local(self) -> bool:
        """Whether a sandbox answers, without TLS or credentials."""
        return is_sandbox(self.host, self.sandbox_host)

    @property
    def engines(self) -> Engines:
        allowed = (name.rpartition("/")[2] for name in self.agent_engine_allowed_ids)
        return Engines(self.google_project_id, self.google_region, self.google_agent_engine_id, frozenset(allowed))


@asynccontextmanager
async def _open(settings: AgentEngineSettings, resources: ProviderResources) -> AsyncIterator[Agent]:
    opened = _open_rest if settings.agent_engine_transport == "rest" else _open_grpc
    async with opened(settings, resources) as agent:
        yield agent


@asynccontextmanager
async def _open_rest(settings: AgentEngineSettings, resources: ProviderResources) -> AsyncIterator[Agent]:
    clock, method = resources.clock, settings.agent_engine_class_method
    authorization: Authorization = StaticToken()
    if not settings.is_local:
        authorization = GoogleToken(await _read_credentials(settings))
    async with open_http() as client:
        url = f"{'http' if settings.is_local else 'https'}://{settings.host}"
        api = JsonApi(GOOGLE, client, url, authorization, clock)
        yield AgentEngineRest(api, settings.engines, clock, class_method=method)


@asynccontextmanager
async def _open_grpc(settings: AgentEngineSettings, resources: ProviderResources) -> AsyncIterator[Agent]:
    # Here and not above: gRPC and Google's client are 0.7 s and 40 MB that a deployment without them does not pay.
    # In a thread first, so that the rest of `./eai up` goes on meanwhile.
    await asyncio.to_thread(importlib.import_module, "eai_agent_router.agent_engine_grpc")
    from eai_agent_router.agent_engine_grpc import AgentEngineGrpc, open_queries

    credentials = None if settings.is_local else await _read_credentials(settings)
    async with open_queries(settings.host, credentials) as queries:
        method = settings.agent_engine_class_method
        yield AgentEngineGrpc(queries, settings.engines, resources.clock, class_method=method)


async def _read_credentials(settings: AgentEngineSettings) -> Credentials:
    return await asyncio.to_thread(read_google_credentials, settings.google_application_credentials.get_secret_value())


def _targets(name: str, settings: AgentEngineSettings) -> TargetOf:
    return engine_targets(name, settings.engines)


PROVIDER = ProviderDefinition(GOOGLE, AgentEngineSettings, _open, _targets)
