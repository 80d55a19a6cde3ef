"""Speech v2 and the Reasoning Engine execution service over gRPC, as generic handlers over bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc
import grpc.aio

from eai_sandbox import wire
from eai_sandbox.agent_engine import AgentEngine
from eai_sandbox.refusal import Refused
from eai_sandbox.speech import MAX_SIZE_BYTES, Speech

__all__ = ["grpc_server"]

_Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]

# Above Speech's limit, so that a larger audio gets Google's error and not gRPC's; gRPC's default is 4 MB.
_MAX_MESSAGE_BYTES = 4 * MAX_SIZE_BYTES
_UNEXPECTED_OUTPUT = {"unexpected": [1, 2, 3]}


def grpc_server(speech: Speech, engine: AgentEngine) -> grpc.aio.Server:
    """A server with both services, not started and without a port."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),  # a second sandbox on this port must fail
    ]
    server = grpc.aio.server(options=options)
    recognize, query = _recognize_with(speech), _query_with(engine)
    for service, method, handler in (
        ("google.cloud.speech.v2.Speech", "Recognize", recognize),
        ("google.cloud.aiplatform.v1.ReasoningEngineExecutionService", "QueryReasoningEngine", query),
        ("google.cloud.aiplatform.v1beta1.ReasoningEngineExecutionService", "QueryReasoningEngine", query),
    ):
        # No serialisers: methods take and return bytes.
        handlers = {method: grpc.unary_unary_rpc_method_handler(_with_errors(handler))}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return server


def _recognize_with(speech: Speech) -> _Handler:
    async def recognize(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return wire.encode_recognized(await speech.recognize(wire.decode_recognize(body)))

    return recognize


def _query_with(engine: AgentEngine) -> _Handler:
    async def query(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request = wire.decode_query(body, _text_metadata(context))
        output, is_malformed = await engine.query(request, protocol="grpc")
        return wire.encode_query_output(_UNEXPECTED_OUTPUT if is_malformed else output)

    return query


def _with_errors(handler: _Handler) -> _Handler:
    async def call(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await handler(body, context)
        except Refused as refusal:
            await _abort(context, refusal)
            raise  # never reached: abort raises

    return call


async def _abort(context: grpc.aio.ServicerContext, refusal: Refused) -> None:
    code = grpc.StatusCode[refusal.google_status]
    trailers: tuple[tuple[str, bytes], ...] = ()
    if refusal.retry_after_s is not None:
        details = wire.retry_info(code.value[0], refusal.text, timedelta(seconds=refusal.retry_after_s))
        trailers = (("grpc-status-details-bin", details),)
    await context.abort(code, refusal.text, trailing_metadata=trailers)


def _text_metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
