"""What transcribing costs around the recogniser, as JSON: time, CPU, memory, and stalls of the event loop.

    .venv/bin/python benchmarks/transcriber.py [--latency 1.0] [--rounds 3]

The whole handler as it is wired, with a real Redis. A child process serves the recordings, and speaks Google's protocol
with a recogniser that answers each call after a fixed time. The baselines, measured in the same run and in turns:
`recogniser_s`, the same pieces handed to that recogniser alone; and ffmpeg (where it is installed) doing the same
conversion, or the shortest PyAV loop that does it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from random import SystemRandom
from typing import Any

import av
import uvloop

from eai_cli.servers import run_private_redis
from eai_common.clock import Deadline, SystemClock
from eai_common.messages import MessageAudio
from eai_common.settings import RedisSettings
from eai_common.stage import Attempt, StageContext
from eai_common.store import open_redis
from eai_common.telemetry import Metrics
from eai_transcriber.audio import cut_into_pieces
from eai_transcriber.google_speech import open_google_speech
from eai_transcriber.handler import Transcribe
from eai_transcriber.recognizer import AcceptedAudio, Audio, Recognizer, SoundFormat
from eai_transcriber.settings import AudioSettings, SpeechSettings
from eai_transcriber.testing import encoded, silence
from eai_transcriber.wiring import open_transcriber
from eai_transcriber.workers import Stop, Workers

RECORDING = Path(__file__).parents[1] / "services/transcriber/tests/recordings/monday.flac"
FORMATS = {
    "ogg_opus": ("ogg", "libopus", 48_000),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "raw_aac": ("adts", "aac", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "wav": ("wav", "pcm_s16le", 16_000),
}
CONVERTS = AcceptedAudio(frozenset(), timedelta(seconds=55), 9_500_000)  # as for a recogniser that reads none of them
LONGEST = timedelta(seconds=600)
LENGTHS_S = (5, 30, 60, 300)


def main() -> int:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=1.0, help="seconds in which the recogniser answers a call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.latency))
        return 0
    with _server(given.latency) as server, run_private_redis() as redis:
        report = uvloop.run(_measured(server, redis.url, given.rounds, given.latency))
    print(json.dumps(report, indent=2))
    return 0


async def _measured(server: Server, redis_url: str, rounds: int, latency_s: float) -> dict[str, Any]:
    async with _world(server, redis_url) as world:
        await world.transcribe("ogg_opus", 5)  # imports, connections
        return {
            "benchmark": "transcriber",
            "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0], "pyav": av.__version__},
            "recogniser_latency_s": latency_s,
            "memory": await _memory(world),  # first, while nothing else has grown the heap
            "time": {f"{length}_s": await _time(world, "ogg_opus", length, rounds) for length in LENGTHS_S},
            "cpu": {name: _cpu(server, name, rounds) for name in FORMATS},
            "event_loop": await _stalls(server),
        }


# --- the other process ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """Where recordings are, and the recogniser."""

    media_url: str
    speech_target: str

    def url(self, kind: str, seconds: int) -> str:
        return f"{self.media_url}/{kind}/{seconds}"

    def file(self, kind: str, seconds: int) -> bytes:
        with urllib.request.urlopen(self.url(kind, seconds)) as answer:
            return bytes(answer.read())


@contextmanager
def _server(latency_s: float) -> Iterator[Server]:
    command = [sys.executable, __file__, "--serve", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        yield Server(where["media"], where["speech"])
        process.terminate()


async def _serve(latency_s: float) -> None:
    import grpc
    from google.cloud.speech_v2.types import (
        RecognizeRequest,
        RecognizeResponse,
        SpeechRecognitionAlternative,
        SpeechRecognitionResult,
    )

    said = SpeechRecognitionResult(alternatives=[SpeechRecognitionAlternative(transcript="segunda", confidence=0.9)])

    async def recognize(request: RecognizeRequest, context: Any) -> RecognizeResponse:
        await asyncio.sleep(latency_s)
        return RecognizeResponse(results=[said])

    method = grpc.unary_unary_rpc_method_handler(recognize, RecognizeRequest.deserialize, RecognizeResponse.serialize)
    speech = grpc.aio.server(options=[("grpc.max_receive_message_length", 20_000_000)])
    handlers = grpc.method_handlers_generic_handler("google.cloud.speech.v2.Speech", {"Recognize": method})
    speech.add_generic_rpc_handlers((handlers,))
    port = speech.add_insecure_port("127.0.0.1:0")
    await speech.start()
    files: dict[str, bytes] = {}
    media = await asyncio.start_server(partial(_send_file, files), "127.0.0.1", 0)
    media_port = media.sockets[0].getsockname()[1]
    print(json.dumps({"media": f"http://127.0.0.1:{media_port}", "speech": f"127.0.0.1:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the benchmark is gone


async def _send_file(files: dict[str, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
    if path not in files:
        _, kind, seconds = path.split("/")
        files[path] = await asyncio.to_thread(_made, kind, int(seconds))
    body = files[path]
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


def _made(kind: str, seconds: int) -> bytes:
    """Speech of that length: the recording and a pause, again and again."""
    (whole,) = cut_into_pieces(RECORDING.read_bytes(), CONVERTS, LONGEST, Stop())
    once = whole.content[44:] + silence(0.6)
    container, codec, rate = FORMATS[kind]
    spoken = (once * (seconds * 32_000 // len(once) + 1))[: seconds * 32_000]
    return encoded(spoken, container, codec, rate=rate, bit_rate=0 if codec.startswith("pcm") else 64_000)


# --- the handler ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """The handler as it is wired, and its recogniser alone."""

    server: Server
    handler: Transcribe
    recognizer: Recognizer
    side_by_side: int

    async def transcribe(self, kind: str, seconds: int) -> None:
        clock = SystemClock()
        message = MessageAudio(
            message_id="0190b7a4-0000-7000-8000-000000000000",
            user_number="+5521999999999",
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            message=self.server.url(kind, seconds),
        )
        ctx = StageContext(Deadline.after(timedelta(seconds=300)), Attempt(1), clock)
        done = await self.handler(message, ctx)
        assert done.transcript

    async def recognize_alone(self, cut: list[Audio]) -> None:
        turns = asyncio.Semaphore(self.side_by_side)

        async def one(piece: Audio) -> None:
            async with turns:
                deadline = Deadline.after(timedelta(seconds=60))
                assert (await self.recognizer.transcribe(piece, deadline=deadline)).text

        await asyncio.gather(*map(one, cut))


@asynccontextmanager
async def _world(server: Server, redis_url: str) -> AsyncIterator[World]:
    audio = AudioSettings.read({"TRANSCRIBE_ALLOWED_NETWORKS": "127.0.0.0/8"})
    speech = SpeechSettings.read(
        {"SPEECH_ENDPOINT": server.speech_target, "TRANSCRIPT_CACHE_TTL": "0", "GOOGLE_API_RATE_LIMIT": "100000"}
    )
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(RedisSettings.read({"REDIS_URL": redis_url})))
        handler = await stack.enter_async_context(
            open_transcriber(audio, speech, redis=redis, random=SystemRandom(), metrics=Metrics())
        )
        recognizer = await stack.enter_async_context(open_google_speech(speech.google))
        yield World(server, handler, recognizer, speech.speech_parallel)


# --- what is measured -------------------------------------------------------------------------------------------------


async def _time(world: World, kind: str, seconds: int, rounds: int) -> dict[str, Any]:
    accepts = AcceptedAudio(frozenset(SoundFormat), CONVERTS.longest, CONVERTS.largest_bytes)
    cut = list(cut_into_pieces(world.server.file(kind, seconds), accepts, LONGEST, Stop()))
    whole_s, alone_s = [], []
    for _ in range(rounds):
        whole_s.append(await _seconds(partial(world.transcribe, kind, seconds)))
        alone_s.append(await _seconds(partial(world.recognize_alone, cut)))
    whole, alone = statistics.median(whole_s), statistics.median(alone_s)
    return {
        "pieces": len(cut),
        "message_s": round(whole, 3),
        "recogniser_s": round(alone, 3),
        "ratio": round(whole / alone, 3),
    }


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def _cpu(server: Server, kind: str, rounds: int) -> dict[str, Any]:
    baseline = "ffmpeg, one thread" if shutil.which("ffmpeg") else "a bare PyAV loop"
    return {
        "baseline": baseline,
        **{f"{seconds}_s": _cpu_of(server.file(kind, seconds), rounds) for seconds in (30, 300)},
    }


def _cpu_of(content: bytes, rounds: int) -> dict[str, float]:
    ours_s, ffmpegs_s, bare_s = [], [], []
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        for _ in range(rounds):
            ours_s.append(_cpu_s(lambda: list(cut_into_pieces(content, CONVERTS, LONGEST, Stop()))))
            bare_s.append(_cpu_s(lambda: _bare(content)))
            if shutil.which("ffmpeg"):
                ffmpegs_s.append(_cpu_s(lambda: _ffmpeg(file.name), of=resource.RUSAGE_CHILDREN))
    ours, baseline = min(ours_s), min(ffmpegs_s or bare_s)
    return {
        "cpu_s": round(ours, 4),
        "files_per_cpu_s": round(1 / ours, 1),
        "baseline_cpu_s": round(baseline, 4),
        "ratio": round(ours / baseline, 2),
        "ratio_to_bare_pyav": round(ours / min(bare_s), 2),
    }


def _cpu_s(work: Callable[[], object], *, of: int = resource.RUSAGE_SELF) -> float:
    before = resource.getrusage(of)
    work()
    after = resource.getrusage(of)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ffmpeg(path: str) -> None:
    conversion = ["-ac", "1", "-ar", "16000", "-f", "s16le", "-y", os.devnull]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", path, *conversion], check=True)


def _bare(content: bytes) -> bytes:
    """The shortest loop that converts: it neither measures nor cuts, and a broken packet would end it."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(BytesIO(content), "r") as file:
        frames = (out for frame in file.decode(audio=0) for out in resampler.resample(frame))
        return b"".join(bytes(frame.planes[0]) for frame in frames)


async def _stalls(server: Server) -> dict[str, Any]:
    """How late the loop came to a task that wanted to run each millisecond, with ten files in work and with none."""
    content = server.file("raw_aac", 300)
    async with Workers(2) as workers:

        async def convert() -> None:
            async for _ in workers.each(partial(cut_into_pieces, content, CONVERTS, LONGEST)):
                pass

        busy = await _late(lambda: asyncio.gather(*(convert() for _ in range(10))))
    idle = await _late(lambda: asyncio.sleep(2))
    return {
        "files": "10 of 300 s, raw AAC, 2 threads",
        "longest_stall_ms": round(max(busy) * 1000, 1),
        "p99_ms": round(statistics.quantiles(busy, n=100)[98] * 1000, 1),
        "longest_stall_idle_ms": round(max(idle) * 1000, 1),
    }


async def _late(work: Callable[[], Awaitable[object]]) -> list[float]:
    late: list[float] = []
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            late.append(loop.time() - due)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    await work()
    watching.cancel()
    return late


async def _memory(world: World) -> dict[str, Any]:
    """Resident memory above idle, at its highest, for ten minutes of speech."""
    gc.collect()
    idle_mb = _rss_mb("VmRSS")
    figures: dict[str, Any] = {"idle_mb": idle_mb}
    for kind, at_once in (("ogg_opus", 1), ("raw_aac", 1), ("wav", 1), ("ogg_opus", 4)):
        await asyncio.to_thread(world.server.file, kind, 600)  # made before the clock runs; what it took is given back
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here (source: proc(5))
        await asyncio.gather(*(world.transcribe(kind, 600) for _ in range(at_once)))
        figures[f"{kind}_{at_once}_at_once_mb_above_idle"] = round(_rss_mb("VmHWM") - idle_mb, 1)
    return figures


def _rss_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
