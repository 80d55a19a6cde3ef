"""The provider fails, in each way there is: what the user is told, how often it was asked, and what an operator sees.

The stage as it is wired, on the in-memory broker and Redis; the providers really speak gRPC or HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud.speech_v2.types import (
    RecognizeResponse,
    SpeechRecognitionAlternative,
    SpeechRecognitionResult,
)

from eai_common.broker import Outgoing
from eai_common.broker.memory import MemoryBroker
from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.messages import MessageAudio, MessageFailed, MessageTranscribed, decode, encode
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import Stage, StageResources, handler_for, run_stage
from eai_common.store import RedisClient, TaskStatus, TaskStore, open_memory_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, eventually
from eai_common.topology import Topology
from eai_transcriber.settings import AudioSettings, SpeechSettings
from eai_transcriber.testing import encoded, silence
from eai_transcriber.wiring import open_transcriber

ONE_SECOND = encoded(silence(1), "wav", "pcm_s16le")
TRIES = 3
HEARD = RecognizeResponse(
    results=[SpeechRecognitionResult(alternatives=[SpeechRecognitionAlternative(transcript="bom dia", confidence=0.9)])]
)
Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def serving(serve: Server) -> AsyncIterator[int]:
    """The port of a TCP server; on leaving, none of its connections is left."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))


async def media(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ONE_SECOND) + ONE_SECOND)
    await writer.drain()


@dataclass
class Web:
    """An OpenAI-compatible service with one answer, of which it may send only the first part, or nothing at all."""

    answer: bytes
    hangs: bool = False
    calls: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
        await reader.readexactly(length)
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        writer.write(self.answer)
        await writer.drain()


@dataclass
class Ended:
    """What became of one message."""

    event: MessageTranscribed | MessageFailed
    status: TaskStatus


async def sent(redis: RedisClient, **environ: str) -> Ended:
    """Send one voice message through the stage, and wait for its end."""
    clock = SystemClock()
    topology = Topology(ladder=(timedelta(seconds=0.01), timedelta(seconds=0.05)))
    audio = AudioSettings.read({"TRANSCRIBE_ALLOWED_NETWORKS": "127.0.0.0/8"})
    speech = SpeechSettings.read({"SPEECH_TIMEOUT": "200ms", **environ})
    tasks = TaskSettings()
    async with (
        serving(media) as port,
        MemoryBroker(topology, clock) as broker,
        open_transcriber(audio, speech, redis=redis, random=RANDOM, metrics=Metrics()) as transcribe,
    ):
        parts = StageResources(
            broker=broker,
            redis=redis,
            clock=clock,
            random=RANDOM,
            ids=Ids(clock, RANDOM),
            metrics=Metrics(),
            tracing=open_tracing(TelemetrySettings(), service="test"),
            broker_settings=BrokerSettings(max_retries=TRIES - 1, retry_delay=timedelta(milliseconds=20)),
            worker_settings=WorkerSettings(),
            task_settings=tasks,
            process_settings=ProcessSettings(),
        )
        message = MessageAudio.model_validate(
            {
                "message_id": parts.ids.message_id(),
                "user_number": "+5521999999999",
                "timestamp": clock.now(),
                "message": f"http://127.0.0.1:{port}/voz.ogg",
            }
        )
        await broker.publish(
            Outgoing(message.name, encode(message), message.message_id, message.name, message.timestamp, {})
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_stage(Stage("transcriber", (handler_for(MessageAudio, transcribe),)), parts, stop))
            event = await _end(broker)
            stop.set()
        status = (await TaskStore(redis, tasks).read(message.message_id)).status
        assert status is not None
        return Ended(event, status)


async def _end(broker: MemoryBroker) -> MessageTranscribed | MessageFailed:
    def come() -> list[Any]:
        return [*broker.contents("eai.formatter"), *broker.contents("eai.agent-router")]

    async def has_come() -> bool:
        return bool(come())

    await eventually(has_come, within_s=20)
    (message,) = come()
    accepts: Mapping[str, type[MessageTranscribed | MessageFailed]] = {
        kind.name: kind for kind in (MessageTranscribed, MessageFailed)
    }
    return decode(message.body, event_name=message.event, accepts=[accepts[message.event]], fallback_time=None)


@pytest.fixture()
async def redis() -> AsyncIterator[RedisClient]:
    async with open_memory_redis() as client:
        yield client


GRPC = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("RATE_LIMITED", TRIES),
    grpc.StatusCode.UNAVAILABLE: ("TRANSCRIPTION_UNAVAILABLE", TRIES),
    grpc.StatusCode.INTERNAL: ("TRANSCRIPTION_UNAVAILABLE", TRIES),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("PROVIDER_TIMEOUT", TRIES),
    grpc.StatusCode.INVALID_ARGUMENT: ("TRANSCRIPTION_ERROR", 1),
    grpc.StatusCode.UNAUTHENTICATED: ("PROVIDER_MISCONFIGURED", 1),
    grpc.StatusCode.PERMISSION_DENIED: ("PROVIDER_MISCONFIGURED", 1),
}


@pytest.mark.parametrize(("code", "ends"), GRPC.items(), ids=[code.name for code in GRPC])
async def test_google_refuses(
    redis: RedisClient, speech_server: Any, code: grpc.StatusCode, ends: tuple[str, int]
) -> None:
    speech_server.answers = [code]
    ended = await sent(redis, SPEECH_ENDPOINT=speech_server.target)
    check(ended, *ends)
    assert len(speech_server.requests) == ends[1]


def check(ended: Ended, error_code: str, tries: int) -> None:
    """The message failed with this code after so many tries; trying again is offered only where it can help."""
    assert isinstance(ended.event, MessageFailed)
    assert ended.event.error_code == error_code
    assert (ended.event.retry_after_s is not None) is (tries > 1)
    assert ended.status.fields["attempts"] == str(tries)
    assert ended.status.fields["last_error"].startswith(error_code)


async def test_google_fails_twice_and_then_answers(redis: RedisClient, speech_server: Any) -> None:
    speech_server.answers = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, HEARD]
    ended = await sent(redis, SPEECH_ENDPOINT=speech_server.target)
    assert isinstance(ended.event, MessageTranscribed)
    assert ended.event.confidence == pytest.approx(0.9)
    assert (ended.event.transcript, ended.status.fields["attempts"]) == ("bom dia", "3")


async def test_google_is_down(redis: RedisClient) -> None:
    check(await sent(redis, SPEECH_ENDPOINT="127.0.0.1:1"), "TRANSCRIPTION_UNAVAILABLE", TRIES)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_google_is_slow(redis: RedisClient) -> None:
    async with serving(hang) as port:
        check(await sent(redis, SPEECH_ENDPOINT=f"127.0.0.1:{port}"), "PROVIDER_TIMEOUT", TRIES)


async def test_google_breaks_off_in_the_middle_of_an_answer(redis: RedisClient, speech_server: Any) -> None:
    speech_server.answers = [HEARD]
    host, _, port = speech_server.target.rpartition(":")

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Everything goes there; of what comes back, the first bytes of the answer's frames and no more."""
        answers, questions = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(_pass_on(reader, questions))
        try:
            passed = 0
            while part := await answers.read(4096):
                is_answer = bool(speech_server.requests)
                writer.write(part[:20] if is_answer else part)
                await writer.drain()
                passed += len(part)
                if is_answer:
                    return
        finally:
            up.cancel()
            questions.close()

    async with serving(cut) as between:
        check(await sent(redis, SPEECH_ENDPOINT=f"127.0.0.1:{between}"), "TRANSCRIPTION_UNAVAILABLE", TRIES)
    assert speech_server.requests  # once: for a second after a broken connection gRPC itself asks nobody


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()


def http_answer(status: str, body: bytes = b"{}", *headers: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", body])


GOOD = http_answer("200 OK", b'{"text": "bom dia, tudo bem?"}')
WEB = {
    "429": (Web(http_answer("429 Too Many Requests")), "RATE_LIMITED", TRIES),
    "503": (Web(http_answer("503 Busy")), "TRANSCRIPTION_UNAVAILABLE", TRIES),
    "400": (Web(http_answer("400 Bad")), "TRANSCRIPTION_ERROR", 1),
    "401": (Web(http_answer("401 Who")), "PROVIDER_MISCONFIGURED", 1),
    "half an answer": (Web(GOOD[:-10]), "TRANSCRIPTION_UNAVAILABLE", TRIES),
    "half a head": (Web(GOOD[:20]), "TRANSCRIPTION_UNAVAILABLE", TRIES),
    "nothing": (Web(b""), "TRANSCRIPTION_UNAVAILABLE", TRIES),
    "not HTTP": (Web(b"220 smtp.example.org ESMTP\r\n"), "TRANSCRIPTION_UNAVAILABLE", TRIES),
    "slow": (Web(GOOD, hangs=True), "PROVIDER_TIMEOUT", TRIES),
}


@pytest.mark.parametrize(("web", "error_code", "tries"), WEB.values(), ids=WEB.keys())
async def test_an_openai_compatible_service_fails(redis: RedisClient, web: Web, error_code: str, tries: int) -> None:
    async with serving(web.serve) as port:
        ended = await sent(redis, SPEECH_PROVIDERS="openai", OPENAI_TRANSCRIPTION_URL=f"http://127.0.0.1:{port}/v1")
    check(ended, error_code, tries)
    assert web.calls == tries


async def test_the_second_provider_answers_while_the_first_is_down(redis: RedisClient) -> None:
    web = Web(GOOD)
    async with serving(web.serve) as port:
        ended = await sent(
            redis,
            SPEECH_PROVIDERS="google,openai",
            SPEECH_ENDPOINT="127.0.0.1:1",
            OPENAI_TRANSCRIPTION_URL=f"http://127.0.0.1:{port}/v1",
        )
    assert isinstance(ended.event, MessageTranscribed)
    assert (ended.event.transcript, ended.status.fields["attempts"]) == ("bom dia, tudo bem?", "1")
