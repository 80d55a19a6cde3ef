"""Agent Engine over REST: `…/reasoningEngines/{id}:query`, and long-running operations."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.routing import Route

from eai_sandbox.agent_engine import AgentEngine
from eai_sandbox.answers import normalise
from eai_sandbox.http_edge import Answer, ReceivedRequest, endpoint, google_error, parse
from eai_sandbox.jsontype import Json, JsonObject
from eai_sandbox.refusal import Refused
from eai_sandbox.wire import QueryRequest

__all__ = ["AgentEngineRest"]

_MAX_OPERATIONS = 1000


class _Body(BaseModel):
    class_method: str = Field("", alias="classMethod")
    input: dict[str, object]


@dataclass(slots=True)
class _Operation:
    output: Json
    polls_left: int = 1  # the first poll finds it running, so that a client polls at least twice


class AgentEngineRest:
    """REST over an AgentEngine. A question that contains "responda por operação" gets an operation to poll."""

    def __init__(self, engine: AgentEngine) -> None:
        self._engine = engine
        self._operations: OrderedDict[str, _Operation] = OrderedDict()

    @property
    def routes(self) -> list[Route]:
        """`:query` and the operations, under /v1 and /v1beta1."""
        prefixes = ("/v1", "/v1beta1")
        engine = "/projects/{project}/locations/{location}/reasoningEngines/{engine}"
        query, poll = endpoint(self.query, google_error), endpoint(self.poll, google_error)
        return [
            *(Route(f"{prefix}{engine}:query", query, methods=["POST"]) for prefix in prefixes),
            *(Route(f"{prefix}{engine}/operations/{{operation}}", poll, methods=["GET"]) for prefix in prefixes),
        ]

    async def query(self, received: ReceivedRequest) -> Answer:
        """Answer one question."""
        body = parse(_Body, received.body)
        name = _engine_name(received)
        headers = dict(received.request.headers)
        request = QueryRequest(name, body.class_method, body.input, headers)  # type: ignore[arg-type]  # JSON, read above
        output, is_malformed = await self._engine.query(request, protocol="http")
        if "responda por operacao" in normalise(str(body.input.get("input", ""))):
            return Answer(self._begin(name, output), is_malformed)
        return Answer({"output": output}, is_malformed)

    async def poll(self, received: ReceivedRequest) -> Answer:
        """An operation: running at the first poll, then done with the answer of `:query`. Raises Refused if unknown."""
        name = f"{_engine_name(received)}/operations/{received.path('operation')}"
        operation = self._operations.get(name)
        if operation is None:
            raise Refused(f"Operation {name} not found.", status=HTTPStatus.NOT_FOUND)
        if operation.polls_left:
            operation.polls_left -= 1
            return Answer({"name": name, "done": False})
        return Answer({"name": name, "done": True, "response": {"output": operation.output}})

    def _begin(self, engine: str, output: Json) -> JsonObject:
        name = f"{engine}/operations/{uuid4().int % 10**18}"
        self._operations[name] = _Operation(output)
        if len(self._operations) > _MAX_OPERATIONS:
            self._operations.popitem(last=False)
        return {"name": name, "done": False}


def _engine_name(received: ReceivedRequest) -> str:
    project, location, engine = (received.path(name) for name in ("project", "location", "engine"))
    return f"projects/{project}/locations/{location}/reasoningEngines/{engine}"
