"""Every adapter against the sandbox, which speaks each provider's real protocol over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio

from eai_agent_router.agent import Agent, History
from eai_agent_router.errors import AgentBadRequest, AgentNotFound, AgentTimeout
from eai_agent_router.failures import GOOGLE, OPENAI
from eai_agent_router.provider import ProviderResources
from eai_agent_router.settings import AgentSettings
from eai_agent_router.testing import AgentContract, StandIn, a_turn, a_user, deadline_in, text_of
from eai_agent_router.wiring import open_agents
from eai_common.clock import SystemClock
from eai_common.messages import HistoryMessage
from eai_common.settings import load
from eai_sandbox import Fault, FaultKind, Sandbox, SandboxOptions, Target, run_sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one sandbox for all: each start and stop costs 0.3 s

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
        self._put(kind=FaultKind.STATUS, status=status, retry_after_s=seconds, times=2)

    def hang(self) -> None:
        self._put(kind=FaultKind.HANG, times=1)

    def answer_nonsense(self) -> None:
        self._put(kind=FaultKind.MALFORMED, times=1)

    def questions(self) -> list[str]:
        return [call.content for call in self._sandbox.calls.of(self._target)]

    def outcomes(self) -> list[str]:
        return [call.outcome for call in self._sandbox.calls.of(self._target)]

    def _put(self, **order: object) -> None:
        self._sandbox.faults.clear()
        self._sandbox.faults.put(Fault.model_validate({"target": self._target, **order}))


@asynccontextmanager
async def agents_of(
    environ: Mapping[str, str], agent_ids: MemoryAgentIds | None = None
) -> AsyncIterator[Mapping[str, Agent]]:
    """The agents that a deployment with these variables has."""
    settings = load(AgentSettings, environ)
    ids = agent_ids or MemoryAgentIds()
    async with open_agents(settings, ProviderResources(ids, MemoryConversations(), SystemClock())) as agents:
        yield agents


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_sandbox() -> AsyncIterator[Sandbox]:
    options = SandboxOptions(
        eai_token="eai", openai_key="sk", agent_returns_thread=True, shutdown_grace=timedelta(milliseconds=20)
    )
    async with run_sandbox(options) as running:
        yield running


@pytest.fixture()
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """The sandbox, as if it had just started."""
    running_sandbox.faults.clear()
    running_sandbox.calls.clear()
    return running_sandbox


class TestAgentEngineOverGrpc(AgentContract):
    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.AGENT_ENGINE)

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        async with agents_of({**ENGINE, "AGENT_ENGINE_ENDPOINT": sandbox.grpc_target}) as agents:
            yield agents[GOOGLE]


class TestAgentEngineOverRest(AgentContract):
    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.AGENT_ENGINE)

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        rest = {"AGENT_ENGINE_ENDPOINT": sandbox.http_url, "AGENT_ENGINE_TRANSPORT": "rest"}
        async with agents_of({**ENGINE, **rest}) as agents:
            yield agents[GOOGLE]


class TestEaiAgentService(AgentContract):
    REMEMBERS = False

    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.LETTA)

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        eai = {"EAI_AGENT_SERVICE_URL": sandbox.http_url, "EAI_AGENT_SERVICE_TOKEN": "eai"}
        async with agents_of({**eai, "AGENT_PROVIDER": "eai_agent_service"}) as agents:
            yield agents["eai_agent_service"]


class TestOpenAiChat(AgentContract):
    SHOWS_TOOLS = False
    SHOWS_THOUGHTS = False

    @pytest.fixture()
    def stand_in(self, sandbox: Sandbox) -> StandIn:
        return SandboxStandIn(sandbox, Target.OPENAI)

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        chat = {"OPENAI_BASE_URL": f"{sandbox.http_url}/v1", "OPENAI_API_KEY": "sk", "OPENAI_MODEL": "m"}
        async with agents_of({**chat, "AGENT_PROVIDER": "openai"}) as agents:
            yield agents[OPENAI]


EAI = {"EAI_AGENT_SERVICE_TOKEN": "eai", "AGENT_PROVIDER": "eai_agent_service"}


class TestAgentsOfUsers:
    """What is particular about the EAI Agent Service: it makes an agent for each user."""

    @pytest.fixture()
    def agent_ids(self) -> MemoryAgentIds:
        return MemoryAgentIds()

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox, agent_ids: MemoryAgentIds) -> AsyncIterator[Agent]:
        async with agents_of({**EAI, "EAI_AGENT_SERVICE_URL": sandbox.http_url}, agent_ids) as agents:
            yield agents["eai_agent_service"]

    async def test_a_user_has_one_agent_however_many_messages_come_at_once(
        self, agent: Agent, sandbox: Sandbox
    ) -> None:
        user = a_user()
        turns = (agent.ask(a_turn("Oi", thread_id=user), deadline=deadline_in(10)) for _ in range(5))
        answers = await asyncio.gather(*turns)
        assert len({answer.agent_id for answer in answers}) == 1
        assert len(sandbox.calls.of(Target.EAI)) == 1

    async def test_an_agent_that_the_service_forgot_is_made_anew_and_answers(
        self, agent: Agent, agent_ids: MemoryAgentIds
    ) -> None:
        user = a_user()
        await agent_ids.put(user, "agent-that-never-was")
        answer = await agent.ask(a_turn("Oi", thread_id=user), deadline=deadline_in(10))
        assert answer.agent_id == agent_ids.known[user] != "agent-that-never-was"

    async def test_an_agent_is_made_anew_only_once(self, agent: Agent, sandbox: Sandbox) -> None:
        SandboxStandIn(sandbox, Target.LETTA).fail(404)
        with pytest.raises(AgentNotFound):
            await agent.ask(a_turn("Oi"), deadline=deadline_in(10))
        assert len(sandbox.calls.of(Target.LETTA)) == 2

    async def test_history_from_elsewhere_is_refused(self, agent: Agent) -> None:
        with pytest.raises(AgentBadRequest):
            await agent.remember(History("id", a_user(), ()), deadline=deadline_in(10))


class TestOperations:
    """What is particular about REST: an answer may be an operation to poll."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def agent(self, sandbox: Sandbox) -> AsyncIterator[Agent]:
        rest = {"AGENT_ENGINE_ENDPOINT": sandbox.http_url, "AGENT_ENGINE_TRANSPORT": "rest"}
        async with agents_of({**ENGINE, **rest}) as agents:
            yield agents[GOOGLE]

    async def test_an_operation_is_polled_until_it_is_done(self, agent: Agent) -> None:
        answer = await agent.ask(a_turn("Responda por operação: onde há vacina?"), deadline=deadline_in(10))
        assert "Saúde" in text_of(answer)

    async def test_an_operation_that_outlasts_the_deadline_is_a_timeout(self, agent: Agent) -> None:
        with pytest.raises(AgentTimeout):
            await agent.ask(a_turn("Responda por operação"), deadline=deadline_in(0.4))
