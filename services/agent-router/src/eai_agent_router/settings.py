"""The settings of the agent router's providers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator
from pydantic_settings import SettingsConfigDict

from eai_agent_router.agent import Provider
from eai_agent_router.agent_engine import Engines
from eai_agent_router.eai_service import NewAgent
from eai_agent_router.errors import AgentBadRequest
from eai_agent_router.guards import GuardSettings
from eai_agent_router.once import IfUncertain
from eai_agent_router.openai_chat import ChatOptions
from eai_common.guards.google import is_sandbox
from eai_common.settings import Duration, Group, Items, SandboxHost
from eai_common.store.mailboxes import MergeRule

__all__ = ["AgentEngineSettings", "AgentSettings", "EaiSettings", "OpenAiSettings", "RouterSettings"]

_ENGINE = r"^([0-9]{1,30}|projects/[^/]+/locations/[^/]+/reasoningEngines/[0-9]{1,30})?$"


def _base_url(value: str) -> str:
    if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
        raise ValueError("not an http(s) address")
    return value.rstrip("/")


def _split(endpoint: str) -> SplitResult:
    return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")


def _endpoint(value: str) -> str:
    parts = _split(value)
    if value and (not parts.hostname or parts.path.strip("/")):
        raise ValueError("not an endpoint")
    return value.rstrip("/")


BaseUrl = Annotated[
    str, AfterValidator(_base_url), WithJsonSchema({"type": "string", "takes": "an http:// or https:// address"})
]
Endpoint = Annotated[
    str,
    AfterValidator(_endpoint),
    WithJsonSchema(
        {"type": "string", "takes": "host:port or https://host:port, http:// only for this machine and SANDBOX_HOST"}
    ),
]


ProviderName = Annotated[Provider, WithJsonSchema({"type": "string", "takes": f"one of {', '.join(Provider)}"})]
EngineName = Annotated[
    str,
    Field(pattern=_ENGINE),
    WithJsonSchema({"type": "string", "takes": "digits, or projects/…/locations/…/reasoningEngines/ and digits"}),
]


class RouterSettings(Group):
    """Which agent answers."""

    agent_provider: ProviderName = Field(
        default=Provider.GOOGLE_AGENT_ENGINE,
        description="Provider for messages that name none. It must be configured.",
    )
    agent_if_uncertain: IfUncertain = Field(
        default="ask_again",
        description="If it is unknown whether an agent answered (the process died, or the call timed out): "
        "ask_again may add the question to the thread twice; fail tells the user and asks nobody.",
    )
    double_texting: Literal["queue", "merge"] = Field(
        default="queue",
        description="How messages of one user in quick succession are answered: queue answers one after the "
        "other; merge answers them as one turn, with the last message. Needs ORDERING_ENABLED.",
    )
    merge_window: Duration = Field(
        default=timedelta(seconds=2),
        description="With merge, a turn begins once the user has sent nothing for this long, and after five times "
        "this long at the latest.",
    )

    @property
    def merging(self) -> MergeRule | None:
        """The rule for merging; None if each message is its own turn."""
        return MergeRule(self.merge_window, 5 * self.merge_window) if self.double_texting == "merge" else None


class AgentEngineSettings(Group):
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


class EaiSettings(Group):
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

    @property
    def is_configured(self) -> bool:
        return bool(self.eai_agent_service_url)

    @property
    def new_agent(self) -> NewAgent:
        return NewAgent(self.eai_agent_type, self.eai_agent_model or None)


class OpenAiSettings(Group):
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

    @property
    def is_configured(self) -> bool:
        return bool(self.model)

    @property
    def chat(self) -> ChatOptions:
        return ChatOptions(self.model, self.system_prompt, self.history_messages, self.history_tokens)


@dataclass(frozen=True)
class AgentSettings:
    """All groups of the providers; a service's settings may be a dataclass that extends this one."""

    router: RouterSettings
    agent_engine: AgentEngineSettings
    eai: EaiSettings
    openai: OpenAiSettings
    guards: GuardSettings
