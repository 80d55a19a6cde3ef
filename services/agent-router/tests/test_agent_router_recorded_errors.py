"""Errors as providers and what stands before them send them, byte for byte in their shape, and what each becomes.

Sources: Google Cloud's error model (AIP-193) and Agent Engine's own texts; OpenAI's "Error codes"; FastAPI, on which
the EAI Agent Service and Letta are built; nginx, Envoy, Cloudflare and Google's front end, which answer when those
cannot. Names, numbers and ids are made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
import httpx
import pytest
from google.api_core.exceptions import from_grpc_status
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from eai_agent_router.agent_engine import Engines
from eai_agent_router.agent_engine_grpc import AgentEngineGrpc, Queries, Query
from eai_agent_router.agent_engine_rest import AgentEngineRest
from eai_agent_router.failures import GOOGLE, OPENAI
from eai_agent_router.json_api import JsonApi, StaticToken
from eai_agent_router.testing import a_turn, deadline_in
from eai_common.clock import SystemClock
from eai_common.errors import Retriable, StageError

EAI = "eai_agent_service"
CRASH = (
    "Reasoning Engine Execution failed.\nPlease refer to our documentation (https://cloud.google.com/vertex-ai/"
    "generative-ai/docs/agent-engine/troubleshooting/use) for checking logs and other troubleshooting tips.\n"
    "Error Details: "
)


@dataclass(frozen=True)
class Recorded:
    """One HTTP answer, and the error code that a client sees when no retry helped."""

    name: str
    provider: str
    status: int
    body: str
    error_code: str
    headers: dict[str, str] = field(default_factory=dict)
    wish_s: float | None = None  # what a retriable one asks for


def google(status: int, name: str, message: str, *details: object) -> str:
    return json.dumps({"error": {"code": status, "message": message, "status": name, "details": list(details)}})


def openai(message: str, kind: str, code: str | None, param: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def fastapi(detail: object) -> str:
    return json.dumps({"detail": detail})


def retry_info(delay: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


QUOTA_INFO = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "RATE_LIMIT_EXCEEDED",
    "domain": "googleapis.com",
    "metadata": {"quota_metric": "aiplatform.googleapis.com/reasoning_engine_service_query_requests"},
}
QUOTA = (
    "Quota exceeded for quota metric 'Reasoning Engine Query requests' and limit 'Reasoning Engine Query requests per "
    "minute per region' of service 'aiplatform.googleapis.com' for consumer 'project_number:1'."
)
NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
GFE_502 = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n<p>Please try again in 30 seconds."
)

RECORDED = [
    # Google Agent Engine
    Recorded("no such engine", GOOGLE, 404,
             google(404, "NOT_FOUND", "The ReasoningEngine does not exist."), "AGENT_NOT_FOUND"),
    Recorded("an expired token", GOOGLE, 401,
             google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), "AGENT_UNAUTHORIZED"),
    Recorded("a role that is missing", GOOGLE, 403,
             google(403, "PERMISSION_DENIED", "Permission 'aiplatform.reasoningEngines.query' denied on resource."),
             "AGENT_UNAUTHORIZED"),
    Recorded("an API that is not switched on", GOOGLE, 403,
             google(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project 1 before or it is disabled."),
             "AGENT_UNAUTHORIZED"),
    Recorded("quota with a wish", GOOGLE, 429,
             google(429, "RESOURCE_EXHAUSTED", QUOTA, QUOTA_INFO, retry_info("42s")), "AGENT_RATE_LIMITED", wish_s=42),
    Recorded("quota without a wish", GOOGLE, 429,
             google(429, "RESOURCE_EXHAUSTED", QUOTA, QUOTA_INFO), "AGENT_RATE_LIMITED"),
    Recorded("a wish in a fraction of a second", GOOGLE, 429,
             google(429, "RESOURCE_EXHAUSTED", QUOTA, retry_info("0.250s")), "AGENT_RATE_LIMITED", wish_s=0.25),
    Recorded("a header before the body's wish", GOOGLE, 429,
             google(429, "RESOURCE_EXHAUSTED", QUOTA, retry_info("42s")), "AGENT_RATE_LIMITED",
             {"retry-after": "7"}, wish_s=7),
    Recorded("a wish that is no duration", GOOGLE, 429,
             google(429, "RESOURCE_EXHAUSTED", QUOTA, retry_info("soon")), "AGENT_RATE_LIMITED"),
    Recorded("the model's quota under the agent", GOOGLE, 400,
             google(400, "FAILED_PRECONDITION", CRASH + "429 RESOURCE_EXHAUSTED. {'error': {'code': 429}}"),
             "AGENT_RATE_LIMITED"),
    Recorded("the agent's database is gone", GOOGLE, 400,
             google(400, "FAILED_PRECONDITION", CRASH + '{"detail":"psycopg.OperationalError: closed"}'),
             "AGENT_UNAVAILABLE"),
    Recorded("a crash that repeats what the user wrote", GOOGLE, 400,
             google(400, "FAILED_PRECONDITION", CRASH + '"KeyError"\nRequest Data: {"content": "429 quota"}'),
             "AGENT_UNAVAILABLE"),
    Recorded("a thread that grew too long", GOOGLE, 400,
             google(400, "FAILED_PRECONDITION",
                    CRASH + "400 The input token count (1048600) exceeds the maximum number of tokens."),
             "AGENT_INPUT_TOO_LONG"),
    Recorded("an engine that does not start", GOOGLE, 400,
             google(400, "INVALID_ARGUMENT", "Reasoning Engine resource failed to start and cannot serve traffic."),
             "AGENT_UNAVAILABLE"),
    Recorded("a class method that is not there", GOOGLE, 400,
             google(400, "FAILED_PRECONDITION", "User-specified method `async_qurey` not found."), "AGENT_BAD_REQUEST"),
    Recorded("a prompt that safety blocked", GOOGLE, 400,
             google(400, "INVALID_ARGUMENT", "The prompt could not be submitted. It was blocked: PROHIBITED_CONTENT."),
             "AGENT_REFUSED"),
    Recorded("Google's internal error", GOOGLE, 500,
             google(500, "INTERNAL", "Internal error encountered."), "AGENT_UNAVAILABLE"),
    Recorded("Google is overloaded", GOOGLE, 503,
             google(503, "UNAVAILABLE", "The service is currently unavailable."), "AGENT_UNAVAILABLE"),
    Recorded("Google gave up waiting", GOOGLE, 504,
             google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."), "AGENT_TIMEOUT"),
    Recorded("a byte-order mark before the error", GOOGLE, 404,
             "\ufeff" + google(404, "NOT_FOUND", "Not found."), "AGENT_NOT_FOUND"),
    Recorded("an error in a list, as streams send it", GOOGLE, 429,
             f"[{google(429, 'RESOURCE_EXHAUSTED', QUOTA)}]", "AGENT_RATE_LIMITED"),
    Recorded("Google's front end", GOOGLE, 502, GFE_502, "AGENT_UNAVAILABLE"),
    # EAI Agent Service and Letta
    Recorded("no such agent", EAI, 404, fastapi("Agent not found"), "AGENT_NOT_FOUND"),
    Recorded("a wrong token", EAI, 401, fastapi("Invalid authentication credentials"), "AGENT_UNAUTHORIZED"),
    Recorded("no token", EAI, 403, fastapi("Not authenticated"), "AGENT_UNAUTHORIZED"),
    Recorded("a field that is missing", EAI, 422,
             fastapi([{"type": "missing", "loc": ["body", "user_number"], "msg": "Field required", "input": {}}]),
             "AGENT_BAD_REQUEST"),
    Recorded("a context that overflows", EAI, 400,
             fastapi("Requested tokens exceed the context window: the prompt is too long"), "AGENT_INPUT_TOO_LONG"),
    Recorded("another message is in work for the agent", EAI, 409,
             fastapi("Cannot process a new message: the agent is processing one"), "AGENT_UNAVAILABLE"),
    Recorded("Letta's model is limited", EAI, 429,
             fastapi("Rate limited by the model provider"), "AGENT_RATE_LIMITED", {"retry-after": "20"}, wish_s=20),
    Recorded("Letta has no credit left", EAI, 402, fastapi("Not enough credits"), "AGENT_UNAVAILABLE"),
    Recorded("FastAPI's bare crash", EAI, 500, "Internal Server Error", "AGENT_UNAVAILABLE"),
    Recorded("a page of HTML instead of JSON", EAI, 404, NGINX.format("404 Not Found"), "AGENT_NOT_FOUND"),
    Recorded("nginx has no upstream", EAI, 502, NGINX.format("502 Bad Gateway"), "AGENT_UNAVAILABLE"),
    Recorded("nginx gave up waiting", EAI, 504, NGINX.format("504 Gateway Time-out"), "AGENT_TIMEOUT"),
    Recorded("nginx finds the body too large", EAI, 413,
             NGINX.format("413 Request Entity Too Large"), "AGENT_INPUT_TOO_LONG"),
    Recorded("Envoy has no upstream", EAI, 503,
             "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
             "AGENT_UNAVAILABLE"),
    Recorded("a date instead of seconds, long past", EAI, 503, "", "AGENT_UNAVAILABLE",
             {"retry-after": "Thu, 01 Jan 2026 10:31:00 GMT"}, wish_s=0),
    Recorded("Cloudflare has waited for long", EAI, 524, "error code: 524", "AGENT_UNAVAILABLE"),
    Recorded("a sign-in page in between", EAI, 302, "", "AGENT_BAD_RESPONSE", {"location": "https://a.example.org"}),
    # OpenAI-compatible
    Recorded("a wrong key", OPENAI, 401,
             openai("Incorrect API key provided: sk-…1234.", "invalid_request_error", "invalid_api_key"),
             "AGENT_UNAUTHORIZED"),
    Recorded("a country that is not served", OPENAI, 403,
             openai("Country, region, or territory not supported", "request_forbidden",
                    "unsupported_country_region_territory"), "AGENT_UNAUTHORIZED"),
    Recorded("no such model", OPENAI, 404,
             openai("No model `gpt-9`.", "invalid_request_error", "model_not_found"), "AGENT_NOT_FOUND"),
    Recorded("a conversation too long", OPENAI, 400,
             openai("This model's maximum context length is 8192 tokens.", "invalid_request_error",
                    "context_length_exceeded", "messages"), "AGENT_INPUT_TOO_LONG"),
    Recorded("a text too long", OPENAI, 400,
             openai("Invalid 'messages[0].content': string too long.", "invalid_request_error",
                    "string_above_max_length"), "AGENT_INPUT_TOO_LONG"),
    Recorded("too many requests", OPENAI, 429,
             openai("Rate limit reached for requests", "requests", "rate_limit_exceeded"), "AGENT_RATE_LIMITED",
             {"retry-after": "3"}, wish_s=3),
    Recorded("out of credit", OPENAI, 429,
             openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
             "AGENT_UNAVAILABLE"),
    Recorded("Azure's content filter", OPENAI, 400,
             openai("The response was filtered due to the prompt.", "", "content_filter", "prompt"),
             "AGENT_REFUSED"),
    Recorded("OpenAI's own policy", OPENAI, 400,
             openai("Your request was rejected by our safety system.", "invalid_request_error",
                    "content_policy_violation"), "AGENT_REFUSED"),
    Recorded("a parameter that is not known", OPENAI, 400,
             openai("Unrecognized request argument supplied: foo", "invalid_request_error", None), "AGENT_BAD_REQUEST"),
    Recorded("the server had an error", OPENAI, 500,
             openai("The server had an error while processing your request.", "server_error", None),
             "AGENT_UNAVAILABLE"),
    Recorded("the engine is overloaded", OPENAI, 503,
             openai("The engine is currently overloaded, please try again later", "server_error", None),
             "AGENT_UNAVAILABLE"),
    Recorded("vLLM's error without an envelope", OPENAI, 400,
             json.dumps({"object": "error", "message": "This model's maximum context length is 4096.", "code": 400}),
             "AGENT_INPUT_TOO_LONG"),
]  # fmt: skip


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: f"{recorded.provider}: {recorded.name}")
async def test_an_http_error_becomes_what_clients_and_retries_go_by(recorded: Recorded) -> None:
    error = await error_of(recorded)
    assert error.error_code == recorded.error_code
    if isinstance(error, Retriable):
        assert error.retry_after == (None if recorded.wish_s is None else timedelta(seconds=recorded.wish_s))


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: f"{recorded.provider}: {recorded.name}")
async def test_an_errors_text_repeats_nothing_that_the_provider_said(recorded: Recorded) -> None:
    words = recorded.body.split()
    text = str(await error_of(recorded))
    assert not any(" ".join(words[start : start + 4]) in text for start in range(max(0, len(words) - 3)))


def test_there_are_enough_of_them_to_trust_the_table() -> None:
    assert len(RECORDED) >= 40
    assert len({recorded.name for recorded in RECORDED}) == len(RECORDED)


async def error_of(recorded: Recorded) -> StageError:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(recorded.status, headers=recorded.headers, content=recorded.body.encode())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        api = JsonApi(recorded.provider, client, "https://provider.example.org", StaticToken(), SystemClock())
        with pytest.raises(StageError) as caught:
            await api.post("/", {}, message_id="id", deadline=deadline_in(5))
    return caught.value


# --- over gRPC -------------------------------------------------------------------------------------------------------

RETRY = RetryInfo(retry_delay=Duration(seconds=42))
GRPC = [
    (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", (), "AGENT_UNAVAILABLE", None),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, QUOTA, (RETRY,), "AGENT_RATE_LIMITED", 42),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, QUOTA, (ErrorInfo(reason="RATE_LIMIT_EXCEEDED"),), "AGENT_RATE_LIMITED", None),
    (grpc.StatusCode.FAILED_PRECONDITION, CRASH + "KeyError", (), "AGENT_UNAVAILABLE", None),
    (grpc.StatusCode.UNAUTHENTICATED, "the token has expired", (), "AGENT_UNAUTHORIZED", None),
    (grpc.StatusCode.NOT_FOUND, "no such engine", (), "AGENT_NOT_FOUND", None),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", (), "AGENT_TIMEOUT", None),
    (grpc.StatusCode.CANCELLED, "the connection was closed", (), "AGENT_UNAVAILABLE", None),
    (grpc.StatusCode.UNKNOWN, "stream removed", (), "AGENT_UNAVAILABLE", None),
]


class RefusingQueries(Queries):
    """Google's client, which raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def query_reasoning_engine(
        self, request: Mapping[str, object], *, retry: None, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> Query:
        raise self._error


@pytest.mark.parametrize(("status", "says", "details", "error_code", "wish_s"), GRPC, ids=lambda value: str(value)[:40])
async def test_a_grpc_error_becomes_the_same(
    status: grpc.StatusCode, says: str, details: tuple[object, ...], error_code: str, wish_s: float | None
) -> None:
    error = from_grpc_status(status, says, details=details)  # type: ignore[no-untyped-call]
    agent = AgentEngineGrpc(
        RefusingQueries(error), Engines("p", "us-central1", "1"), SystemClock(), class_method="async_query"
    )
    with pytest.raises(StageError) as caught:
        await agent.ask(a_turn("Oi"), deadline=deadline_in(5))
    assert caught.value.error_code == error_code
    if isinstance(caught.value, Retriable):
        assert caught.value.retry_after == (None if wish_s is None else timedelta(seconds=wish_s))


# --- an operation that failed -----------------------------------------------------------------------------------------

OPERATION = "projects/p/locations/us-central1/reasoningEngines/1/operations/2"
OPERATIONS = [
    ({"code": 8, "message": QUOTA, "details": [retry_info("9s")]}, "AGENT_RATE_LIMITED"),
    ({"code": 9, "message": CRASH + "KeyError"}, "AGENT_UNAVAILABLE"),
    ({"code": 4, "message": "Deadline expired."}, "AGENT_TIMEOUT"),
    ({"code": 3, "message": "blocked for SAFETY"}, "AGENT_REFUSED"),
    ({"code": 77, "message": "a code that is none"}, "AGENT_UNAVAILABLE"),
]


@pytest.mark.parametrize(("failure", "error_code"), OPERATIONS, ids=lambda value: str(value)[:40])
async def test_a_failed_operation_becomes_the_same(failure: dict[str, object], error_code: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"name": OPERATION, "done": True, "error": failure})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        api = JsonApi(GOOGLE, client, "https://provider.example.org", StaticToken(), SystemClock())
        agent = AgentEngineRest(api, Engines("p", "us-central1", "1"), SystemClock(), class_method="async_query")
        with pytest.raises(StageError) as caught:
            await agent.ask(a_turn("Oi"), deadline=deadline_in(5))
    assert caught.value.error_code == error_code
