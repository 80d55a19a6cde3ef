"""Faults on demand, over both protocols and through the control route."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc.aio
import httpx
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import QueryReasoningEngineRequest
from google.cloud.speech_v2 import SpeechAsyncClient, types
from google.protobuf import json_format
from google.rpc import error_details_pb2

from eai_common.testing import eventually
from eai_sandbox import Fault, FaultKind, Sandbox, Target

NAME = "projects/local/locations/us-central1/reasoningEngines/123"
INPUT = {
    "input": {"messages": [{"role": "human", "content": "Oi"}]},
    "config": {"configurable": {"thread_id": "+5521999999999"}},
}


def fault(kind: FaultKind, target: Target = Target.AGENT_ENGINE, **more: Any) -> Fault:
    return Fault(target=target, kind=kind, **more)


async def ask(engine: Any, *, timeout_s: float = 10) -> Any:
    request = QueryReasoningEngineRequest(name=NAME, class_method="async_query", input=INPUT)
    response = await engine.query_reasoning_engine(request, retry=None, timeout=timeout_s)
    return json_format.MessageToDict(type(response).pb(response).output)


async def ask_rest(http: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await http.post(f"/v1/{NAME}:query", json={"classMethod": "async_query", "input": INPUT}, **more)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, exceptions.InvalidArgument),
        (401, exceptions.Unauthenticated),
        (403, exceptions.PermissionDenied),
        (404, exceptions.NotFound),
        (429, exceptions.ResourceExhausted),
        (500, exceptions.InternalServerError),
        (503, exceptions.ServiceUnavailable),
        (504, exceptions.DeadlineExceeded),
    ],
)
async def test_a_status_is_its_code_over_grpc(
    engine: Any, sandbox: Sandbox, status: int, error: type[Exception]
) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, status=status))
    with pytest.raises(error) as raised:
        await ask(engine)
    assert type(raised.value) is error


async def test_a_wait_for_the_next_try_is_retry_info_over_grpc(engine: Any, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, status=429, retry_after_s=1.5))
    with pytest.raises(exceptions.ResourceExhausted) as raised:
        await ask(engine)
    (info,) = raised.value.details
    assert isinstance(info, error_details_pb2.RetryInfo)
    assert info.retry_delay.ToMilliseconds() == 1500


async def test_a_wait_for_the_next_try_is_a_header_and_retry_info_over_rest(
    http: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, status=429, retry_after_s=7))
    answer = await ask_rest(http)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["details"][0]["retryDelay"] == "7s"


async def test_a_fault_with_times_spoils_that_many_calls(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, status=503, times=2))
    assert [(await ask_rest(http)).status_code for _ in range(3)] == [503, 503, 200]
    assert [call.outcome for call in sandbox.calls.of()] == ["refused:503", "refused:503", "answered"]


async def test_a_fault_with_match_spoils_only_what_has_it(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, status=500, match="Tchau"))
    assert (await ask_rest(http)).status_code == 200
    sandbox.faults.put(fault(FaultKind.STATUS, status=500, match="Oi"))
    assert (await ask_rest(http)).status_code == 500


async def test_latency_comes_before_the_answer(engine: Any, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.LATENCY, seconds=0.2))
    started = time.perf_counter()
    assert (await ask(engine))["messages"]
    assert time.perf_counter() - started >= 0.2


async def test_a_hang_lasts_until_the_grpc_client_gives_up(engine: Any, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.HANG))
    with pytest.raises(exceptions.DeadlineExceeded):
        await ask(engine, timeout_s=0.2)
    await eventually_cancelled(sandbox)


async def test_a_hang_lasts_until_the_http_client_gives_up(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.HANG))
    with pytest.raises(httpx.ReadTimeout):
        await ask_rest(http, timeout=0.2)
    await eventually_cancelled(sandbox)


async def eventually_cancelled(sandbox: Sandbox) -> None:
    await eventually(lambda: sandbox.calls.of()[-1].outcome == "cancelled")


async def test_a_hang_that_nobody_gives_up_on_ends(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.HANG, seconds=0.1))
    assert (await ask_rest(http)).status_code == 504


async def test_malformed_is_an_unexpected_shape_over_grpc(engine: Any, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.MALFORMED))
    assert "messages" not in await ask(engine)


async def test_malformed_is_json_cut_short_over_http(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.MALFORMED))
    answer = await ask_rest(http)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


async def test_speech_fails_on_demand_too(sandbox: Sandbox) -> None:
    sandbox.faults.put(fault(FaultKind.STATUS, Target.SPEECH, status=429, retry_after_s=2))
    config = types.RecognitionConfig(auto_decoding_config={}, language_codes=["pt-BR"])
    recognizer = "projects/local/locations/global/recognizers/_"
    async with grpc.aio.insecure_channel(sandbox.grpc_target) as channel:
        client = SpeechAsyncClient(transport=SpeechAsyncClient.get_transport_class("grpc_asyncio")(channel=channel))
        with pytest.raises(exceptions.ResourceExhausted):
            await client.recognize(
                types.RecognizeRequest(recognizer=recognizer, config=config, content=b"x"), retry=None
            )


async def test_the_control_route_orders_lists_and_takes_back(http: httpx.AsyncClient) -> None:
    order = {"target": "agent_engine", "kind": "status", "status": 503, "times": 3}
    assert (await http.put("/sandbox/faults", json=order)).status_code == 200
    assert (await ask_rest(http)).status_code == 503
    assert (await http.get("/sandbox/faults")).json()["faults"][0]["left"] == 2
    await http.delete("/sandbox/faults")
    assert (await ask_rest(http)).status_code == 200


async def test_an_order_for_the_same_target_and_match_replaces_the_older_one(http: httpx.AsyncClient) -> None:
    for status in (500, 503):
        order = {"target": "agent_engine", "kind": "status", "status": status}
        answer = await http.put("/sandbox/faults", json=order)
    assert [one["status"] for one in answer.json()["faults"]] == [503]


@pytest.mark.parametrize(
    "order",
    [
        {"target": "moon", "kind": "hang"},
        {"target": "eai", "kind": "latency"},
        {"target": "eai", "kind": "status"},
        {"target": "eai", "kind": "hang", "status": 500},
        {"target": "eai", "kind": "hang", "retry_after_s": 1},
        {"target": "eai", "kind": "hang", "surprise": 1},
    ],
    ids=json.dumps,
)
async def test_an_order_that_makes_no_sense_is_refused(http: httpx.AsyncClient, order: dict[str, Any]) -> None:
    assert (await http.put("/sandbox/faults", json=order)).status_code == 422
