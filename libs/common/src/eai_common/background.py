"""Runs what must go on beside something else, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager

__all__ = ["running"]


@asynccontextmanager
async def running(work: Mapping[str, Coroutine[object, object, object]]) -> AsyncIterator[None]:
    """Run each piece of `work` as a task of that name beside the body, and cancel them when the body ends.

    One that fails ends the body, and its error comes out as it is: a half-dead process is worse than a restarted one.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine, name=name) for name, coroutine in work.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from None
