"""The recording, a Google Speech server that says what it is told, and the sandbox, for all tests here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
import httpx
import pytest
from google.cloud.speech_v2.types import RecognizeRequest, RecognizeResponse
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from eai_common.clock import Deadline, SystemClock
from eai_common.stage import Attempt, StageContext
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.recognizer import AcceptedAudio, SoundFormat
from eai_transcriber.workers import Stop

RECORDING = Path(__file__).parent / "recordings" / "monday.flac"


@dataclass
class ScriptedSpeech:
    """Google Speech's protocol, really spoken, with answers from a script; the last one repeats."""

    answers: list[RecognizeResponse | grpc.StatusCode] = field(default_factory=lambda: [RecognizeResponse()])
    retry_after_s: int | None = None
    target: str = ""
    requests: list[RecognizeRequest] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def recognize(
        self, request: RecognizeRequest, context: grpc.aio.ServicerContext[RecognizeRequest, RecognizeResponse]
    ) -> RecognizeResponse:
        self.requests.append(request)
        await self.may_answer.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RecognizeResponse):
            return answer
        if self.retry_after_s is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self._details(answer)),))
        await context.abort(answer, "as the script says")
        raise AssertionError("abort raises")

    def _details(self, code: grpc.StatusCode) -> bytes:
        wait = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=self.retry_after_s))
        packed = any_pb2.Any()
        packed.Pack(wait)
        status = status_pb2.Status(code=code.value[0], message="as the script says", details=[packed])
        return bytes(status.SerializeToString())


@pytest.fixture()
async def speech_server() -> AsyncIterator[ScriptedSpeech]:
    script = ScriptedSpeech()
    method = grpc.unary_unary_rpc_method_handler(
        script.recognize, RecognizeRequest.deserialize, RecognizeResponse.serialize
    )
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 20_000_000)])
    service = grpc.method_handlers_generic_handler("google.cloud.speech.v2.Speech", {"Recognize": method})
    server.add_generic_rpc_handlers((service,))
    script.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield script
    await server.stop(None)


@dataclass(frozen=True)
class Sandbox:
    """The sandbox as a process of its own: its recogniser takes a second to start, so all tests share one."""

    http_url: str
    grpc_target: str

    async def spoil(self, target: str, kind: str, **how: object) -> None:
        """The next call to `target` meets a fault."""
        order = {"target": target, "kind": kind, "times": 1, **how}
        async with httpx.AsyncClient(base_url=self.http_url, trust_env=False) as http:
            (await http.put("/sandbox/faults", json=order)).raise_for_status()

    def forgive(self) -> None:
        """Take every fault back."""
        httpx.delete(f"{self.http_url}/sandbox/faults", trust_env=False).raise_for_status()

    async def calls(self) -> int:
        """How many calls it has seen."""
        async with httpx.AsyncClient(base_url=self.http_url, trust_env=False) as http:
            return int((await http.get("/sandbox/calls")).raise_for_status().json()["total"])


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    command = [sys.executable, "-m", "eai_sandbox", "--speech-workers", "2", "--exit-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        where = json.loads(process.stdout.readline())
        yield Sandbox(where["http"], where["grpc"])
        process.terminate()


@pytest.fixture()
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    sandbox_process.forgive()
    return sandbox_process


@pytest.fixture(scope="session")
def recording() -> bytes:
    """The recording as 16-bit mono samples at 16 kHz."""
    everything = AcceptedAudio(frozenset({SoundFormat.WAV_LINEAR16}), timedelta(seconds=55), 10_000_000)
    (whole,) = cut_into_pieces(RECORDING.read_bytes(), everything, timedelta(seconds=60), Stop())
    return whole.content[44:]


@pytest.fixture()
async def ctx() -> StageContext:
    clock = SystemClock()
    return StageContext(Deadline.after(timedelta(seconds=30)), Attempt(1), clock)


@pytest.fixture()
async def stalls() -> AsyncIterator[list[float]]:
    """How late, in seconds, the event loop came to a call that was due every millisecond."""
    loop, late = asyncio.get_running_loop(), list[float]()
    timer: asyncio.Handle

    def look(due_s: float) -> None:
        nonlocal timer
        late.append(loop.time() - due_s)
        due_s = loop.time() + 0.001
        timer = loop.call_at(due_s, look, due_s)

    timer = loop.call_soon(look, loop.time())
    yield late
    timer.cancel()
