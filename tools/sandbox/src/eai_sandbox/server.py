"""The whole sandbox as one context manager."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
import uvicorn
from starlette.applications import Starlette

from eai_sandbox.agent_engine import AgentEngine
from eai_sandbox.agent_engine_rest import AgentEngineRest
from eai_sandbox.brain import Brain
from eai_sandbox.calls import CallLog
from eai_sandbox.control import Control
from eai_sandbox.conversation import Threads
from eai_sandbox.eai_service import EaiService
from eai_sandbox.faults import Faults, Gate
from eai_sandbox.grpc_services import grpc_server
from eai_sandbox.openai_api import OpenAiApi
from eai_sandbox.options import SandboxOptions
from eai_sandbox.recognizer import Recognizer
from eai_sandbox.speech import Speech

__all__ = ["Sandbox", "run_sandbox"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox."""

    http_url: str  # without a trailing slash
    grpc_target: str  # host:port for an insecure channel
    faults: Faults
    calls: CallLog


@contextlib.asynccontextmanager
async def run_sandbox(options: SandboxOptions | None = None) -> AsyncIterator[Sandbox]:
    """Serve for as long as the context; both ports answer from its start. Raises OSError if a port is taken.

    Installs no signal handlers and imports none of Google's client libraries.
    """
    options = options or SandboxOptions()
    calls, faults = CallLog(limit=options.max_calls, now=_now), Faults()
    gate = Gate(calls, faults, agent_latency=options.agent_latency, hang_limit=options.hang_limit)
    async with contextlib.AsyncExitStack() as stack:
        recognizer = Recognizer(workers=options.speech_workers)
        stack.push_async_callback(recognizer.close)
        threads = Threads(max_threads=options.max_threads, max_messages=options.max_thread_messages)
        brain = Brain(threads, now=_now)
        engine = AgentEngine(gate, brain, returns_thread=options.agent_returns_thread)
        grpc_target = await stack.enter_async_context(_grpc(options, Speech(gate, recognizer), engine))
        eai = EaiService(gate, brain, token=options.eai_token, max_agents=options.max_agents, now=_now)
        openai = OpenAiApi(gate, brain, recognizer, key=options.openai_key, now=_now)
        control = Control(calls, faults, threads, forget_agents=eai.forget)
        apis = (AgentEngineRest(engine), eai, openai, control)
        app = Starlette(routes=[route for api in apis for route in api.routes])
        http_url = await stack.enter_async_context(_http(options, app))
        log.info("sandbox_started", http=http_url, grpc=grpc_target)
        yield Sandbox(http_url, grpc_target, faults, calls)
    log.info("sandbox_stopped", calls=calls.total)


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def _grpc(options: SandboxOptions, speech: Speech, engine: AgentEngine) -> AsyncIterator[str]:
    server = grpc_server(speech, engine)
    host = _in_url(options.host)
    try:
        port = server.add_insecure_port(f"{host}:{options.grpc_port}")
    except RuntimeError as error:  # gRPC's error if bind fails
        raise OSError(f"gRPC cannot listen on {host}:{options.grpc_port}") from error
    await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        await server.stop(options.shutdown_grace.total_seconds())


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # whoever runs the loop handles signals


@contextlib.asynccontextmanager
async def _http(options: SandboxOptions, app: Starlette) -> AsyncIterator[str]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # Names TCP, unlike `socket.create_server`: asyncio sets TCP_NODELAY only on sockets that do, and without it each
    # answer waits 40 ms for an ack.
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((options.host, options.http_port))
        listening.listen(1024)  # before anyone learns the address
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, math.ceil(options.shutdown_grace.total_seconds())),
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="sandbox http")
        try:
            yield f"http://{_in_url(options.host)}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
