"""A bounded pool for CPU work, so that the event loop stays free. Work whose result is no longer needed stops early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar, cast

__all__ = ["Stop", "Stopped", "Workers"]

ResultT = TypeVar("ResultT")
_END: Final = object()


class Stopped(Exception):
    """The work was asked to stop. No caller waits for it, so none sees this."""


class Stop:
    """What work in a thread asks from time to time, because a thread cannot be cancelled."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask the work to stop."""
        self._asked.set()

    def check(self) -> None:
        """Raises Stopped if the work was asked to stop."""
        if self._asked.is_set():
            raise Stopped


class Workers:
    """Threads, not processes: FFmpeg works without the interpreter lock, and audio need not be copied over a pipe.

    The price: a crash inside FFmpeg ends the process. The broker then redelivers, a bounded number of times.
    """

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="audio")
        self._running: set[Stop] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stop in self._running:
            stop.ask()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def run(self, work: Callable[[Stop], ResultT]) -> ResultT:
        """The result of `work`, done in a thread when one is free. Cancelling the call stops the work."""
        with self._stopping() as stop:
            return await self._in_thread(partial(work, stop))

    async def each(self, work: Callable[[Stop], Iterator[ResultT]]) -> AsyncGenerator[ResultT, None]:
        """What `work` yields, each made in a thread when it is asked for; no thread is held in between.

        Close it (`contextlib.aclosing`) when it is not used up: that stops the work.
        """
        with self._stopping() as stop:
            made = work(stop)
            while (item := await self._in_thread(partial(next, made, _END))) is not _END:
                yield cast(ResultT, item)

    @contextmanager
    def _stopping(self) -> Iterator[Stop]:
        stop = Stop()
        self._running.add(stop)
        try:
            yield stop
        finally:
            stop.ask()
            self._running.discard(stop)

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
