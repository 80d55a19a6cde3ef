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
    pieces: AsyncIterator[Audio], recognizer: Recognizer, *, side_by_side: int, deadline: Deadline
) -> Transcript:
    """Return the words of all pieces as one transcript.

    A piece is recognised as soon as it is cut, while the next one is being cut; no more than `side_by_side` at once,
    and one more is in memory. Raises the first error of a piece, alone, so that it can be classified; it stops the
    others.
    """
    places = asyncio.Semaphore(side_by_side)

    async def recognize(piece: Audio, *, is_first: bool) -> Transcript:
        try:
            if is_first:
                return await recognizer.transcribe(piece, deadline=deadline)
            return await _recognize_waiting(recognizer, piece, deadline)
        finally:
            places.release()

    tasks: list[asyncio.Task[Transcript]] = []
    try:
        async with asyncio.TaskGroup() as group:
            async for piece in pieces:
                await places.acquire()
                tasks.append(group.create_task(recognize(piece, is_first=not tasks)))
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return Transcript.join([task.result() for task in tasks])


async def _recognize_waiting(recognizer: Recognizer, piece: Audio, deadline: Deadline) -> Transcript:
    """Recognise a later piece, and wait here when it is deferred: the pieces before it are paid for.

    Under a limit of fewer calls than the message has pieces, it would otherwise never end.
    """
    while True:
        try:
            return await recognizer.transcribe(piece, deadline=deadline)
        except Deferred as later:
            wait = max(later.delay, _SHORTEST_WAIT)
            if wait.total_seconds() >= deadline.remaining_s():
                raise
            await asyncio.sleep(wait.total_seconds())


_SHORTEST_WAIT = timedelta(milliseconds=50)  # against a busy loop, if a guard defers for no time
