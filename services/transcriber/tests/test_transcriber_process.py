"""The transcriber as a process, on RabbitMQ and Redis, killed in the middle of a voice message."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest
from google.cloud.speech_v2.types import (
    RecognizeResponse,
    SpeechRecognitionAlternative,
    SpeechRecognitionResult,
)

from eai_common.broker import Outgoing
from eai_common.broker.rabbitmq import RabbitBroker, RabbitSettings, open_rabbitmq
from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.messages import MessageAudio, MessageTranscribed, decode, encode
from eai_common.testing import RANDOM, eventually
from eai_common.topology import Topology
from eai_transcriber.testing import encoded, silence

pytestmark = pytest.mark.slow

PIECES = 4
HEARD = RecognizeResponse(
    results=[SpeechRecognitionResult(alternatives=[SpeechRecognitionAlternative(transcript="bom dia")])]
)


@cache
def long_recording() -> bytes:
    """Too long for one call, so that it is cut."""
    return encoded(silence(PIECES * 55 - 5), "matroska", "libopus", rate=48_000, bit_rate=8_000)


class Server(Protocol):
    url: str


class Media:
    """A web server with one recording, of which it sends only the first half until it is told otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.may_end = asyncio.Event()
        self.times_begun = self.times_sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = long_recording()
            half = len(body) // 2
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body[:half])
            await writer.drain()
            self.times_begun += 1
            waits = {asyncio.ensure_future(self.may_end.wait()), asyncio.ensure_future(reader.read())}
            _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in left:
                wait.cancel()
            writer.write(body[half:])
            await writer.drain()
            self.times_sent += 1
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/voz.mka"
        yield
        server.close()


class Transcriber:
    """`python -m eai_transcriber`, with queues and a folder for temporary files of its own."""

    def __init__(self, rabbitmq: Server, redis: Server, speech: str, folder: Path) -> None:
        self.topology = Topology(exchange=f"test-{uuid.uuid4().hex[:12]}", prefix=f"test-{uuid.uuid4().hex[:12]}")
        self.settings = RabbitSettings(rabbitmq.url, self.topology)
        self.folder = folder
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PORT": "0",
            "HOST": "127.0.0.1",
            "LOG_LEVEL": "warning",
            "RABBITMQ_URL": rabbitmq.url,
            "RABBITMQ_EXCHANGE": self.topology.exchange,
            "RABBITMQ_QUEUE_PREFIX": self.topology.prefix,
            "REDIS_URL": redis.url,
            "CHECKPOINT_LEASE": "1s",
            "SPEECH_ENDPOINT": speech,
            "TRANSCRIBE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "TRANSCRIPT_CACHE_TTL": "0",  # the recording is silence, so its pieces are all the same
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "eai_transcriber",
            env=self._environment,
            cwd=self.folder,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def files(self) -> list[Path]:
        return await asyncio.to_thread(lambda: [path for path in self.folder.rglob("*") if path.is_file()])


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, within_s=60)


async def in_the_download(media: Media, speech: Any) -> None:
    await until(lambda: media.times_begun == 1)


async def in_the_cutting(media: Media, speech: Any) -> None:
    media.may_end.set()
    await until(lambda: media.times_sent == 1)


async def in_the_recognition(media: Media, speech: Any) -> None:
    media.may_end.set()
    await until(lambda: len(speech.requests) >= 1)


Moment = Callable[[Media, Any], Awaitable[None]]


@pytest.mark.parametrize("moment", [in_the_download, in_the_cutting, in_the_recognition])
async def test_killed_in_the_middle_the_message_goes_on_once_and_no_file_is_left(
    moment: Moment, rabbitmq_server: Server, redis_server: Server, speech_server: Any, tmp_path: Path
) -> None:
    transcriber = Transcriber(rabbitmq_server, redis_server, speech_server.target, tmp_path)
    media, speech_server.answers = Media(), [HEARD]
    speech_server.may_answer.clear()
    async with open_rabbitmq(transcriber.settings, SystemClock(), RANDOM) as broker, media.serving():
        await send(broker, media.url)
        async with transcriber.running() as process:
            await moment(media, speech_server)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        left_by_the_kill = await transcriber.files()
        media.may_end.set()
        speech_server.may_answer.set()
        async with transcriber.running() as process:
            transcripts = await went_on(broker, transcriber.topology)
            process.terminate()
            assert await process.wait() == 0
        assert transcripts == [" ".join(["bom dia"] * PIECES)]
        queue = transcriber.topology.queue_of("transcriber")
        assert [await broker.depth(queue), await broker.depth(f"{queue}.dlq")] == [0, 0]
        assert (left_by_the_kill, await transcriber.files()) == ([], [])


async def send(broker: RabbitBroker, url: str) -> None:
    clock = SystemClock()
    event = MessageAudio(
        message_id=Ids(clock, RANDOM).message_id(),
        user_number="+5521999990000",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        message=url,
    )
    await broker.publish(Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp))


async def went_on(broker: RabbitBroker, topology: Topology) -> list[str]:
    """What came to the next stage: the first transcript, and whatever comes in the second after it."""
    stop = asyncio.Event()
    came: list[str] = []
    async with broker.consume(topology.queue_of("agent-router"), prefetch=10) as consumer:
        async for delivery in consumer.until(stop):
            event = decode(delivery.body, event_name=delivery.event, accepts=[MessageTranscribed], fallback_time=None)
            came.append(event.transcript)
            await delivery.ack()
            asyncio.get_running_loop().call_later(1, stop.set)
    return came
