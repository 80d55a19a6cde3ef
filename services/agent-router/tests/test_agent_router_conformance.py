"""Every adapter against the sandbox, which speaks each provider's real protocol over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from eai_agent_router.agent import Agent, Provider
from eai_agent_router.settings import AgentSettings
from eai_agent_router.testing import AgentContract, StandIn
from eai_agent_router.wiring import open_agents
from eai_common.messages import HistoryMessage
from eai_common.settings import load
from eai_sandbox import Fault, FaultKind, Sandbox, SandboxOptions, Target, run_sandbox

ENGINE = {"GOOGLE_PROJECT_ID": "rio", "GOOGLE_REGION": "us-central1", "GOOGLE_AGENT_ENGINE_ID": "42"}


class MemoryAgentIds:
    """AgentIds in a dict."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    async def get(self, user_number: str) -> str | None:
        return self.known.get(user_number)

    async def put(self, user_number: str, agent_id: str) -> None:
        self.known[user_number] = agent_id


class MemoryConversations:
    """Conversations in a dict."""

    def __init__(self) -> None:
        self.turns: dict[str, dict[str, tuple[HistoryMessage, ...]]] = {}

    async def read(self, thread_id: str, *, without: str) -> tuple[HistoryMessage, ...]:
        turns = self.turns.get(thread_id, {})
        return tuple(one for message_id, turn in turns.items() if message_id != without for one in turn)

    async def append(self, thread_id: str, message_id: str, messages: tuple[HistoryMessage, ...]) -> None:
        self.turns.setdefault(thread_id, {})[message_id] = messages


class SandboxStandIn:
    """One of the sandbox's services, by its controls."""

    def __init__(self, sandbox: Sandbox, target: Target) -> None:
        self._sandbox = sandbox
        self._target = target

    def fail(self, status: int, *, retry_after: timedelta | None = None) -> None:
        seconds = retry_after.total_seconds() if retry_after is not None else None
        # Twice: an adapter may answer a 404 by one more try.
        self._put(Fault(target=self._target, kind=FaultKind.STATUS, status=status, retry_after_s=seconds, times=2))

    def hang(self) -> None:
        self._put(Fault(target=self._target, kind=FaultKind.HANG, times=1))

    def answer_nonsense(self) -> None:
        self._put(Fault(target=self._target, kind=FaultKind.MALFORMED, times=1))

    def questions(self) -> list[str]:
        return [call.content for call in self._sandbox.calls.of(self._target)]

    def outcomes(self) -> list[str]:
        return [call.outcome for call in self._sandbox.calls.of(self._target)]

    def _put(self, fault: Fault) -> None:
        self._sandbox.faults.clear()
        self._sandbox.faults.put(fault)


@asynccontextmanager
async def agents_of(
    environ: Mapping[str, str], agent_ids: MemoryAgentIds | None = None
) -> AsyncIterator[Mapping[str, Agent]]:
    """The agents that a deployment with these variables has."""
    settings = load(AgentSettings, environ)
    ids = agent_ids or MemoryAgentIds()
    async with open_agents(settings, agent_ids=ids, conversations=MemoryConversations()) as agents:
        yield agents


@pytest.fixture()
async def sandbox() -> AsyncIterator[Sandbox]:
    options = SandboxOptions(
        eai_token="eai", openai_key="sk", agent_returns_thread=True, shutdown_grace=timedelta(milliseconds=20)
    )
    async with run_sandbox(options) as running:
        yield running


class TestAgentEngineOverGrpc(AgentContract):
    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.AGENT_ENGINE)

    @pytest.fixture()
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        async with agents_of({**ENGINE, "AGENT_ENGINE_ENDPOINT": sandbox.grpc_target}) as agents:
            yield agents[Provider.GOOGLE_AGENT_ENGINE]


class TestAgentEngineOverRest(AgentContract):
    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.AGENT_ENGINE)

    @pytest.fixture()
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        rest = {"AGENT_ENGINE_ENDPOINT": sandbox.http_url, "AGENT_ENGINE_TRANSPORT": "rest"}
        async with agents_of({**ENGINE, **rest}) as agents:
            yield agents[Provider.GOOGLE_AGENT_ENGINE]


class TestEaiAgentService(AgentContract):
    REMEMBERS = False

    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.LETTA)

    @pytest.fixture()
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        eai = {"EAI_AGENT_SERVICE_URL": sandbox.http_url, "EAI_AGENT_SERVICE_TOKEN": "eai"}
        async with agents_of({**eai, "AGENT_PROVIDER": "eai_agent_service"}) as agents:
            yield agents[Provider.EAI_AGENT_SERVICE]


class TestOpenAiChat(AgentContract):
    SHOWS_TOOLS = False
    SHOWS_THOUGHTS = False

    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.OPENAI)

    @pytest.fixture()
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        chat = {"OPENAI_BASE_URL": f"{sandbox.http_url}/v1", "OPENAI_API_KEY": "sk", "OPENAI_MODEL": "m"}
        async with agents_of({**chat, "AGENT_PROVIDER": "openai"}) as agents:
            yield agents[Provider.OPENAI]
