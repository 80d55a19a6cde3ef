"""Vertex AI Agent Engine: a query in, an output out; gRPC and REST are its transports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from eai_sandbox.brain import Brain, IncomingMessage
from eai_sandbox.calls import Call, Target
from eai_sandbox.conversation import Message, Role
from eai_sandbox.faults import Gate
from eai_sandbox.jsontype import Json
from eai_sandbox.langchain import langchain_message
from eai_sandbox.refusal import Refused
from eai_sandbox.wire import QueryRequest

__all__ = ["AgentEngine"]

_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/reasoningEngines/[A-Za-z0-9_-]+")
_METHODS = ("async_query", "query")
_ROLES = {"human": Role.HUMAN, "user": Role.HUMAN, "ai": Role.AI, "assistant": Role.AI}


class _InputMessage(BaseModel):
    role: Literal["human", "user", "ai", "assistant"]
    content: str
    id: str | None = None


class _Input(BaseModel):
    messages: list[_InputMessage] = Field(min_length=1)
    type: str | None = None

    @property
    def incoming(self) -> list[IncomingMessage]:
        return [IncomingMessage(_ROLES[message.role], message.content, message.id) for message in self.messages]


# A thread id of digits only may arrive as a number.
_Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class _Configurable(BaseModel):
    thread_id: _Text = Field(min_length=1)
    message_id: _Text | None = None


class _Config(BaseModel):
    configurable: _Configurable
    metadata: dict[str, object] = {}


class _Query(BaseModel):
    input: _Input
    config: _Config


class AgentEngine:
    """A deployed Reasoning Engine with a LangGraph agent. Each engine id has its own conversations."""

    def __init__(self, gate: Gate, brain: Brain, *, returns_thread: bool) -> None:
        self._gate = gate
        self._brain = brain
        self._returns_thread = returns_thread

    async def query(self, request: QueryRequest, *, protocol: str) -> tuple[Json, bool]:
        """The output, and whether the transport must send it malformed. Raises Refused."""
        query = _parsed(request)
        thread_id = query.config.configurable.thread_id
        is_history = query.input.type == "history"
        call = Call(
            Target.AGENT_ENGINE,
            protocol,
            "QueryReasoningEngine",
            query.input.messages[-1].content,
            thread_id=thread_id,
            message_id=_message_id(query, request.metadata),
            history=is_history,
        )
        async with self._gate.admit(call) as admitted:
            output = self._output(f"{request.name} {thread_id}", query.input.incoming, is_history=is_history)
            return output, admitted.is_malformed

    def _output(self, thread_id: str, incoming: list[IncomingMessage], *, is_history: bool) -> Json:
        messages = self._brain.record(thread_id, incoming) if is_history else self._answered(thread_id, incoming)
        return {"messages": [langchain_message(message) for message in messages]}

    def _answered(self, thread_id: str, incoming: list[IncomingMessage]) -> tuple[Message, ...]:
        try:
            turn = self._brain.ask(thread_id, incoming)
        except ValueError as error:
            raise Refused(f"Reasoning Engine Execution failed. {error}") from error
        return self._brain.threads.of(thread_id) if self._returns_thread else turn


def _parsed(request: QueryRequest) -> _Query:
    if not _NAME.fullmatch(request.name):
        raise Refused(f"Invalid resource name: {request.name!r}; takes projects/…/locations/…/reasoningEngines/….")
    method = request.class_method or "query"
    if method not in _METHODS:
        raise Refused(f"Reasoning Engine method `{method}` not found. Available methods are: {list(_METHODS)}.")
    try:
        return _Query.model_validate(request.input)
    except ValidationError as error:
        raise Refused(f"Reasoning Engine Execution failed. Invalid input: {error}") from error


def _message_id(query: _Query, metadata: Mapping[str, str]) -> str | None:
    given = (
        query.config.configurable.message_id,
        query.config.metadata.get("message_id"),
        query.input.messages[-1].id,
        metadata.get("x-message-id"),
        metadata.get("x-request-id"),
    )
    return next((str(one) for one in given if one), None)
