"""Runs what must go on beside something else, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

__all__ = ["run_alongside"]

_CANCEL_AGAIN = timedelta(milliseconds=250)


@asynccontextmanager
async def run_alongside(work: Mapping[str, Coroutine[object, object, object]]) -> AsyncIterator[None]:
    """Run each piece of `work` as a task of that name beside the body, and cancel them when the body ends.

    One that fails ends the body, and its error comes out as it is: a half-dead process is worse than a restarted one.
    Work that calls Redis needs a flag besides: a cancellation can get lost there (see `SharedConnection.close`). What
    is still there a moment later is cancelled again.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine, name=name) for name, coroutine in work.items()]
            try:
                yield
            finally:
                await _cancelled(tasks)
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from None


async def _cancelled(tasks: Collection[asyncio.Task[object]]) -> None:
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN.total_seconds())
