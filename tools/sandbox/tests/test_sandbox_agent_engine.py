"""Agent Engine, over gRPC through Google's own client and over REST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import QueryReasoningEngineRequest
from google.protobuf import json_format

from eai_sandbox import Sandbox, SandboxOptions, Target

NAME = "projects/local/locations/us-central1/reasoningEngines/123"
USER = "+5521999999999"
LONGEST_MESSAGE = 4096


def body(*said: str | tuple[str, str], thread: str = USER, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "human", "content": one} if isinstance(one, str) else {"role": one[0], "content": one[1]}
        for one in said
    ]
    return {"input": {"messages": messages, **more}, "config": {"configurable": {"thread_id": thread}}}


async def ask_grpc(engine: Any, *said: str | tuple[str, str], name: str = NAME, **more: Any) -> Any:
    request = QueryReasoningEngineRequest(name=name, class_method="async_query", input=body(*said, **more))
    response = await engine.query_reasoning_engine(request, retry=None, timeout=10)
    return json_format.MessageToDict(type(response).pb(response).output)


async def ask_rest(http: httpx.AsyncClient, *said: str | tuple[str, str], version: str = "v1beta1", **more: Any) -> Any:
    query = {"classMethod": "async_query", "input": body(*said, **more)}
    answer = await http.post(f"/{version}/{NAME}:query", json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["output"]


async def test_an_answer_quotes_the_question_in_portuguese_markdown(engine: Any) -> None:
    messages = (await ask_grpc(engine, "Onde fica o hospital?"))["messages"]
    assert [message["type"] for message in messages] == ["human", "ai"]
    text = messages[1]["content"]
    assert all(piece in text for piece in ("## Saúde", "> Onde fica o hospital?", "**", "- ", "](https://"))


async def test_an_ai_message_carries_id_model_and_usage(http: httpx.AsyncClient) -> None:
    ai = (await ask_rest(http, "Oi"))["messages"][-1]
    usage = ai["response_metadata"]["usage_metadata"]
    assert ai["id"]
    assert ai["response_metadata"]["model_name"]
    assert usage["total_token_count"] == sum(
        usage[f"{part}_token_count"] for part in ("prompt", "candidates", "thoughts")
    )


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_both_versions_of_the_rest_path_answer(http: httpx.AsyncClient, version: str) -> None:
    assert "> Oi" in (await ask_rest(http, "Oi", version=version))["messages"][-1]["content"]


async def test_a_thread_is_one_over_grpc_and_rest(engine: Any, http: httpx.AsyncClient) -> None:
    await ask_grpc(engine, "Meu nome é Ana")
    assert "> Meu nome é Ana" in (await ask_rest(http, "O que eu disse antes?"))["messages"][-1]["content"]


async def test_another_user_or_engine_has_another_thread(engine: Any) -> None:
    await ask_grpc(engine, "Meu nome é Ana")
    for other in ({"thread": "+5511888888888"}, {"name": f"{NAME}4"}):
        answer = (await ask_grpc(engine, "o que eu disse antes?", **other))["messages"][-1]["content"]
        assert "primeira mensagem" in answer


async def test_history_is_recorded_and_not_answered(http: httpx.AsyncClient) -> None:
    recorded = await ask_rest(http, ("human", "Quero a segunda via"), ("ai", "Claro!"), type="history")
    assert [(m["type"], m["content"]) for m in recorded["messages"]] == [
        ("human", "Quero a segunda via"),
        ("ai", "Claro!"),
    ]
    assert "> Quero a segunda via" in (await ask_rest(http, "o que eu disse antes?"))["messages"][-1]["content"]


async def test_a_previous_message_of_the_assistant_may_come_first(http: httpx.AsyncClient) -> None:
    messages = (await ask_rest(http, ("ai", "Seu IPTU vence hoje"), "Como pago?"))["messages"]
    assert [message["type"] for message in messages] == ["ai", "human", "ai"]


async def test_use_uma_ferramenta_makes_a_tool_call_its_return_and_an_answer(http: httpx.AsyncClient) -> None:
    _, call, result, answer = (await ask_rest(http, "Use uma ferramenta, por favor"))["messages"]
    assert call["tool_calls"][0]["args"] == {"consulta": "Use uma ferramenta, por favor"}
    assert (result["type"], result["tool_call_id"]) == ("tool", call["tool_calls"][0]["id"])
    assert answer["content"]


async def test_pense_makes_content_a_list_of_thinking_and_text(http: httpx.AsyncClient) -> None:
    content = (await ask_rest(http, "Pense bem: onde voto?"))["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["thinking", "text"]


async def test_a_long_answer_does_not_fit_one_whatsapp_message(http: httpx.AsyncClient) -> None:
    answer = (await ask_rest(http, "Quero uma resposta longa"))["messages"][-1]["content"]
    assert len(answer) > 2 * LONGEST_MESSAGE


async def test_an_operation_is_polled_until_it_is_done(http: httpx.AsyncClient) -> None:
    query = {"classMethod": "async_query", "input": body("Responda por operação")}
    operation = (await http.post(f"/v1beta1/{NAME}:query", json=query)).json()
    polls = [(await http.get(f"/v1beta1/{operation['name']}")).json() for _ in range(2)]
    assert [poll["done"] for poll in polls] == [False, True]
    assert polls[1]["response"]["output"]["messages"][-1]["type"] == "ai"


async def test_each_query_is_recorded_with_thread_content_and_message_id(engine: Any, sandbox: Sandbox) -> None:
    request = QueryReasoningEngineRequest(name=NAME, class_method="async_query", input=body("Oi"))
    await engine.query_reasoning_engine(request, retry=None, metadata=[("x-message-id", "m-1")])
    (call,) = sandbox.calls.of(Target.AGENT_ENGINE)
    assert (call.protocol, call.thread_id, call.content, call.message_id, call.outcome) == (
        "grpc",
        USER,
        "Oi",
        "m-1",
        "answered",
    )


async def test_the_control_route_tells_how_often_the_agent_was_asked(http: httpx.AsyncClient) -> None:
    await ask_rest(http, "um")
    await ask_rest(http, "dois", thread="+5511888888888")
    asked = (await http.get("/sandbox/calls", params={"target": "agent_engine", "thread_id": USER})).json()
    assert (asked["count"], asked["total"], asked["calls"][0]["content"]) == (1, 2, "um")
    await http.delete("/sandbox/calls")
    assert (await http.get("/sandbox/calls")).json()["total"] == 0


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"classMethod": "nonsense", "input": body("Oi")}, id="unknown method"),
        pytest.param(
            {"classMethod": "async_query", "input": {"input": {"messages": []}}}, id="no message and no thread"
        ),
        pytest.param({"classMethod": "async_query", "input": body(("ai", "Oi"))}, id="last message is not the user's"),
        pytest.param({"classMethod": "async_query"}, id="no input"),
    ],
)
async def test_a_bad_query_is_an_invalid_argument(http: httpx.AsyncClient, spoiled: dict[str, Any]) -> None:
    answer = await http.post(f"/v1beta1/{NAME}:query", json=spoiled)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_a_name_that_is_no_engine_is_an_invalid_argument(engine: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="resource name"):
        await ask_grpc(engine, "Oi", name="engines/1")


class TestAsLangGraph:
    """With `agent_returns_thread`, an answer is the whole thread."""

    @pytest.fixture()
    def options(self) -> SandboxOptions:
        return SandboxOptions(agent_returns_thread=True)

    async def test_the_whole_thread_comes_back(self, http: httpx.AsyncClient) -> None:
        await ask_rest(http, "um")
        messages = (await ask_rest(http, "dois"))["messages"]
        assert [message["type"] for message in messages] == ["human", "ai", "human", "ai"]
