"""A sandbox for each test inside its own loop, and one process for all tests that only listen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest

from eai_sandbox import Sandbox, SandboxOptions, run_sandbox

RECORDING = Path(__file__).parents[3] / "tests" / "e2e" / "data" / "spoken-question.wav"


@pytest.fixture(scope="session")
def recording() -> bytes:
    """A WAV that says "where can i get a new passport"."""
    return RECORDING.read_bytes()


@pytest.fixture(scope="session")
def process() -> Iterator[dict[str, str]]:
    """Addresses of a sandbox process; its recognisers stay warm from test to test."""
    command = [sys.executable, "-m", "eai_sandbox", "--exit-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sandbox:
        assert sandbox.stdout is not None
        assert sandbox.stdin is not None
        yield json.loads(sandbox.stdout.readline())
        sandbox.stdin.close()
        assert sandbox.wait(timeout=10) == 0


@pytest.fixture()
def options() -> SandboxOptions:
    """What `sandbox` is started with; a test class or module may override it."""
    return SandboxOptions()


@pytest.fixture()
async def sandbox(options: SandboxOptions) -> AsyncIterator[Sandbox]:
    async with run_sandbox(options) as running:
        yield running


@pytest.fixture()
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.http_url, timeout=20) as client:
        yield client


@pytest.fixture()
async def engine(sandbox: Sandbox) -> AsyncIterator[Any]:
    """Google's own client of Agent Engine, over an insecure channel to the sandbox."""
    from google.cloud.aiplatform_v1.services import reasoning_engine_execution_service as service

    transport_class = service.ReasoningEngineExecutionServiceAsyncClient.get_transport_class("grpc_asyncio")
    async with grpc.aio.insecure_channel(sandbox.grpc_target) as channel:
        yield service.ReasoningEngineExecutionServiceAsyncClient(transport=transport_class(channel=channel))


@pytest.fixture()
async def speech(process: dict[str, str]) -> AsyncIterator[Any]:
    """Google's own client of Speech v2, over an insecure channel to the process."""
    from google.cloud.speech_v2 import SpeechAsyncClient

    transport_class = SpeechAsyncClient.get_transport_class("grpc_asyncio")
    async with grpc.aio.insecure_channel(process["grpc"]) as channel:
        yield SpeechAsyncClient(transport=transport_class(channel=channel))
