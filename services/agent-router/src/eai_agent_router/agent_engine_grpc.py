"""Google Agent Engine over gRPC, by Google's own generated client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, cast

import grpc.aio
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf import struct_pb2
from pydantic import JsonValue

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.agent_engine import Engines, build_history_input, build_turn_input, read_answer
from eai_agent_router.errors import AgentTimeout
from eai_agent_router.failures import GOOGLE, Failure, make_error
from eai_agent_router.lean_import import import_service
from eai_common.clock import Clock, Deadline
from eai_common.guards import deadline_scope
from eai_common.guards.google import retry_delay

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["AgentEngineGrpc", "Queries", "Query", "open_queries"]

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_LARGEST_EXACT = 2**53  # a Struct holds every number as a double


class Query(Protocol):
    """google.cloud.aiplatform_v1.QueryReasoningEngineResponse."""

    @classmethod
    def pb(cls, instance: Query) -> _RawQuery:
        """The plain protobuf message inside."""


class _RawQuery(Protocol):
    output: struct_pb2.Value


class Queries(Protocol):
    """What is used of google.cloud.aiplatform_v1.ReasoningEngineExecutionServiceAsyncClient."""

    async def query_reasoning_engine(
        self, request: Mapping[str, object], *, retry: None, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> Query:
        """`timeout` in seconds; without `retry` the library tries once."""


class AgentEngineGrpc(Agent):
    """Queries engines by one unary call each. The library's own retries are off: the stage retries."""

    def __init__(self, queries: Queries, engines: Engines, clock: Clock, *, class_method: str) -> None:
        self._queries = queries
        self._engines = engines
        self._clock = clock
        self._class_method = class_method

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        output = await self._query(turn, build_turn_input(turn), deadline)
        return read_answer(output, turn, at=self._clock.now())

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        return await self._query(history, build_history_input(history), deadline)

    async def _query(self, asked: Turn | History, given: Mapping[str, JsonValue], deadline: Deadline) -> JsonValue:
        name = self._engines.resource_name(asked.reasoning_engine_id)
        async with deadline_scope(deadline, GOOGLE, AgentTimeout):
            try:
                response = await self._queries.query_reasoning_engine(
                    {"name": name, "input": _to_struct(given), "class_method": self._class_method},
                    retry=None,
                    timeout=deadline.remaining_s(),
                    metadata=(("x-message-id", asked.message_id),),
                )
            except GoogleAPICallError as error:
                raise make_error(_read_failure(error)) from error
        return _to_json(type(response).pb(response).output)


@asynccontextmanager
async def open_queries(endpoint: str, credentials: Credentials | None) -> AsyncIterator[Queries]:
    """Open Google's client for `host[:port]`. Without credentials the channel has no TLS: for a sandbox."""
    service = await asyncio.to_thread(
        import_service, "google.cloud.aiplatform_v1", "reasoning_engine_execution_service"
    )
    client_type = service.ReasoningEngineExecutionServiceAsyncClient
    if credentials is None:
        channel = grpc.aio.insecure_channel(endpoint, options=_UNLIMITED)
        client = client_type(transport=client_type.get_transport_class("grpc_asyncio")(channel=channel))
    else:
        client = client_type(credentials=credentials, client_options=ClientOptions(api_endpoint=endpoint))
    try:
        yield cast(Queries, client)
    finally:
        await client.transport.close()


def _to_struct(given: Mapping[str, JsonValue]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(given)
    return struct


def _to_json(value: struct_pb2.Value) -> JsonValue:
    """The value as JSON has it: whole numbers are whole again, as they were before they became doubles."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _to_json(item) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [_to_json(item) for item in value.list_value.values]
        case "number_value":
            number: float = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return bool(value.bool_value)
        case _:
            return None


def _read_failure(error: GoogleAPICallError) -> Failure:
    code = error.grpc_status_code
    return Failure(
        provider=GOOGLE,
        code=code.name if code is not None else "UNKNOWN",
        message=error.message or "",
        retry_after=retry_delay(error.details),
    )
