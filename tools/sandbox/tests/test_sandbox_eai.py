"""The EAI Agent Service with Letta behind it, and the OpenAI-compatible chat."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from eai_sandbox import Sandbox, SandboxOptions, Target

USER = "+5521999999999"


@pytest.fixture()
async def agent_id(http: httpx.AsyncClient) -> str:
    made = await http.post("/api/v1/agent/create", json={"user_number": USER, "agent_type": "agentic_search"})
    assert made.status_code == 201
    return str(made.json()["agent_id"])


async def send(http: httpx.AsyncClient, agent_id: str, *said: str) -> Any:
    messages = [{"role": "user", "content": one} for one in said]
    answer = await http.post(f"/v1/agents/{agent_id}/messages", json={"messages": messages})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_agent_that_was_made_can_be_read(http: httpx.AsyncClient, agent_id: str) -> None:
    agent = (await http.get(f"/api/v1/agent/{agent_id}")).json()
    assert (agent["agent_id"], agent["user_number"]) == (agent_id, USER)


async def test_an_agent_answers_the_letta_way(http: httpx.AsyncClient, agent_id: str) -> None:
    answer = await send(http, agent_id, "Onde vacinar?")
    assert [one["message_type"] for one in answer["messages"]] == ["assistant_message"]
    assert "> Onde vacinar?" in answer["messages"][0]["content"]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


async def test_an_agent_remembers(http: httpx.AsyncClient, agent_id: str) -> None:
    await send(http, agent_id, "Meu nome é Ana")
    assert "> Meu nome é Ana" in (await send(http, agent_id, "oq eu disse antes"))["messages"][-1]["content"]


async def test_thoughts_and_tools_are_messages_of_their_own(http: httpx.AsyncClient, agent_id: str) -> None:
    answer = await send(http, agent_id, "Pense e use uma ferramenta")
    kinds = [one["message_type"] for one in answer["messages"]]
    assert kinds == ["tool_call_message", "tool_return_message", "reasoning_message", "assistant_message"]
    assert answer["usage"]["step_count"] == 2


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v1/agent/{}"), ("POST", "/v1/agents/{}/messages")])
async def test_an_unknown_agent_is_a_404(http: httpx.AsyncClient, method: str, path: str) -> None:
    said = {"messages": [{"role": "user", "content": "Oi"}]}
    answer = await http.request(method, path.format("agent-lost"), json=said if method == "POST" else None)
    assert answer.status_code == 404
    assert "agent-lost" in answer.json()["detail"]


async def test_agents_can_be_lost_on_demand(http: httpx.AsyncClient, agent_id: str) -> None:
    await http.delete("/sandbox/agents")
    assert (await http.get(f"/api/v1/agent/{agent_id}")).status_code == 404


async def test_a_system_prompt_names_its_tags(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/system-prompt", params={"tags": "saude,iptu"})
    assert answer.json()["tags"] == ["saude", "iptu"]


async def test_calls_to_letta_and_to_the_service_are_told_apart(
    http: httpx.AsyncClient, sandbox: Sandbox, agent_id: str
) -> None:
    await send(http, agent_id, "Oi")
    assert [call.method for call in sandbox.calls.of(Target.EAI)] == ["create"]
    assert [(call.content, call.thread_id) for call in sandbox.calls.of(Target.LETTA)] == [("Oi", agent_id)]


async def test_a_body_that_lacks_a_field_is_told_which(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/agent/create", json={"agent_type": "x"})
    assert answer.status_code == 422
    assert "user_number" in answer.json()["detail"]


async def test_chat_is_stateless_and_counts_tokens(http: httpx.AsyncClient) -> None:
    messages = [
        {"role": "system", "content": "Seja gentil"},
        {"role": "user", "content": "Meu nome é Ana"},
        {"role": "assistant", "content": "Olá, Ana"},
        {"role": "user", "content": [{"type": "text", "text": "O que eu disse antes?"}]},
    ]
    answer = (await http.post("/v1/chat/completions", json={"model": "local", "messages": messages})).json()
    assert "> Meu nome é Ana" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    "change", [{"stream": True}, {"messages": [{"role": "assistant", "content": "Oi"}]}], ids=["stream", "no question"]
)
async def test_a_chat_that_it_cannot_do_is_refused(http: httpx.AsyncClient, change: dict[str, Any]) -> None:
    chat = {"model": "local", "messages": [{"role": "user", "content": "Oi"}], **change}
    answer = await http.post("/v1/chat/completions", json=chat)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


class TestWithTokens:
    """With tokens configured, each service asks for its own."""

    @pytest.fixture()
    def options(self) -> SandboxOptions:
        return SandboxOptions(eai_token="eai", openai_key="key")

    @pytest.mark.parametrize(
        ("token", "status"), [("Bearer eai", 200), ("Bearer nope", 401), ("eai", 401), (None, 401)], ids=str
    )
    async def test_the_eai_service_asks_for_its_bearer_token(
        self, http: httpx.AsyncClient, token: str | None, status: int
    ) -> None:
        headers = {} if token is None else {"Authorization": token}
        assert (await http.get("/api/v1/system-prompt", headers=headers)).status_code == status

    async def test_a_refused_call_is_not_recorded(self, http: httpx.AsyncClient, sandbox: Sandbox) -> None:
        chat = {"model": "local", "messages": [{"role": "user", "content": "Oi"}]}
        assert (await http.post("/v1/chat/completions", json=chat)).status_code == 401
        assert not sandbox.calls.of()
