"""Speech to text in a small pool of worker processes, which start on first use and are reused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from datetime import timedelta

import structlog

__all__ = ["AudioTooLong", "Segment", "Linear16", "Recognizer", "Transcript", "Undecodable"]

log = structlog.get_logger(__name__)

_LONGEST_ANSWER = 1 << 20  # bytes; a minute of speech is under 2 kB of text


class Undecodable(Exception):
    """The content is not audio in a known container."""


class AudioTooLong(Exception):
    """The audio is longer than the limit it was given."""


@dataclass(frozen=True, slots=True)
class Linear16:
    """How headerless samples are to be read."""

    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Segment:
    """What was said between two long pauses."""

    text: str
    confidence: float  # 0 to 1, the mean of the words' posteriors
    end: timedelta  # from the beginning of the audio


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in one audio; `segments` is empty for silence."""

    duration: timedelta
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join(segment.text for segment in self.segments)


class Recognizer:
    """Recognises English, at most `workers` audios at a time; the others wait for a free worker.

    A worker starts when it is first needed. It takes half a second and 150 MB, so the first answer is late.
    """

    def __init__(self, *, workers: int) -> None:
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[Process] = []
        self._all: set[Process] = set()

    async def recognize(self, content: bytes, *, limit: timedelta, linear16: Linear16 | None = None) -> Transcript:
        """What is said in the audio. Raises Undecodable or AudioTooLong."""
        job = {
            "size": len(content),
            "limit_s": limit.total_seconds(),
            "linear16": [linear16.rate, linear16.channels] if linear16 else None,
        }
        async with self._slots:
            answer = await self._work(json.dumps(job).encode() + b"\n" + content)
        return _transcript(answer)

    async def close(self) -> None:
        """End every worker."""
        workers, self._all = self._all, set()
        self._idle.clear()
        await asyncio.gather(*(_end(worker) for worker in workers))

    async def _work(self, job: bytes) -> bytes:
        worker = self._idle.pop() if self._idle else await self._start()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(job)
            await worker.stdin.drain()
            answer = await worker.stdout.readline()
            if not answer:
                raise RuntimeError("the recogniser's process died; its reason is on stderr")
        except BaseException:  # also a cancellation: this worker's next answer would belong to this job
            self._all.discard(worker)
            await asyncio.shield(_end(worker))
            raise
        self._idle.append(worker)
        return answer

    async def _start(self) -> Process:
        # The import path goes along, so that the worker starts from wherever this process was started.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "eai_sandbox.speech_worker",
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
            limit=_LONGEST_ANSWER,
            process_group=0,  # Ctrl-C in the terminal goes to the parent only, which ends its workers
        )
        self._all.add(worker)
        log.info("recognizer_started", worker_pid=worker.pid, workers=len(self._all))
        return worker


async def _end(worker: Process) -> None:
    if worker.returncode is None:
        worker.kill()  # a worker has nothing to save
    await worker.wait()
    assert worker.stdin is not None
    worker.stdin.close()


def _transcript(answer: bytes) -> Transcript:
    body = json.loads(answer)
    if body.get("error") == "undecodable":
        raise Undecodable(body["text"])
    if body.get("error") == "too_long":
        raise AudioTooLong(body["text"])
    segments = (Segment(one["text"], one["confidence"], timedelta(seconds=one["end_s"])) for one in body["segments"])
    return Transcript(timedelta(seconds=body["duration_s"]), tuple(segments))
