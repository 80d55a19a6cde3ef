"""A long recording recognised piece by piece: side by side, in bounded memory, and joined in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from eai_common.clock import Deadline
from eai_common.errors import Deferred
from eai_transcriber.recognizer import Audio, Recognizer, Transcript

__all__ = ["recognize_in_pieces"]


async def recognize_in_pieces(
    found: AsyncIterator[Audio], recognizer: Recognizer, *, side_by_side: int, deadline: Deadline
) -> Transcript:
    """The words of all pieces as one transcript.

    A piece is recognised as soon as it is there, while the next one is being cut; no more than `side_by_side` at once,
    and one more is in memory. The first error stops all others and is raised alone, so that it can be classified.
    """
    turns = asyncio.Semaphore(side_by_side)

    async def recognize(piece: Audio, *, is_first: bool) -> Transcript:
        try:
            if is_first:
                return await recognizer.transcribe(piece, deadline=deadline)
            return await _patiently(recognizer, piece, deadline)
        finally:
            turns.release()

    tasks: list[asyncio.Task[Transcript]] = []
    try:
        async with asyncio.TaskGroup() as group:
            async for piece in found:
                await turns.acquire()
                tasks.append(group.create_task(recognize(piece, is_first=not tasks)))
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return Transcript.joined([task.result() for task in tasks])


async def _patiently(recognizer: Recognizer, piece: Audio, deadline: Deadline) -> Transcript:
    """Wait here where the first piece would send the message back to the broker: earlier pieces are paid for.

    With a limit of fewer calls than the message has pieces, it would otherwise never come to its end.
    """
    while True:
        try:
            return await recognizer.transcribe(piece, deadline=deadline)
        except Deferred as later:
            wait = max(later.delay, _SHORTEST_WAIT)
            if wait.total_seconds() >= deadline.remaining_s():
                raise
            await asyncio.sleep(wait.total_seconds())


_SHORTEST_WAIT = timedelta(milliseconds=50)  # against a busy loop, should somebody defer for no time at all
