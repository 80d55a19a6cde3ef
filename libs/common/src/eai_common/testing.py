"""What the tests of every package share: time that costs none, chance that repeats, and waiting for a condition."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from unittest.mock import patch

from looptime import LoopTimeEventLoop

__all__ = ["RANDOM", "LoopClock", "VirtualTimeLoop", "eventually", "every", "pass_time", "run_ready", "wait_until"]

RANDOM = Random(0)  # noqa: S311  # repeatable is what it is for
"""Chance in tests: one for all, so that no two ids are the same; `conftest.py` seeds it anew for each test."""

_START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_TURNS_UNTIL_IDLE = 100
_LOOK_AGAIN_S = 0.01


class VirtualTimeLoop(LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """A loop that skips the time in which it has nothing to do. Tests that are marked `virtual_time` run on it.

    Not for servers in other processes: their time is real, so each timeout here ends before they have answered.
    """

    def __init__(self) -> None:
        super().__init__()
        # Libraries that ask the system for the date go along: fakeredis ends its keys by it.
        self._date = patch("time.time", lambda: _START.timestamp() + self.time())
        self._date.start()

    def close(self) -> None:
        if not self.is_closed():
            self._date.stop()
        super().close()


class LoopClock:
    """A clock that goes with the event loop: in virtual time an hour passes at once."""

    def __init__(self, start: datetime = _START) -> None:
        self._start = start  # the date when the loop's time is 0, which is when a virtual loop begins

    def now(self) -> datetime:
        return self._start + timedelta(seconds=asyncio.get_running_loop().time())


async def pass_time(duration: timedelta) -> None:
    """Let virtual time pass, and all that is due happen. Raises AssertionError in real time: wait for a condition."""
    if not isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
        raise AssertionError("time passes at will only in a test that is marked `virtual_time`")
    await asyncio.sleep(duration.total_seconds())
    await run_ready()


async def run_ready(turns: int = _TURNS_UNTIL_IDLE) -> None:
    """Let all tasks run that can, until they wait for time, a server or a thread, or for so many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def eventually(
    holds: Callable[[], object | Awaitable[object]], *, within_s: float = 10, every_s: float = _LOOK_AGAIN_S
) -> None:
    """Return as soon as `holds` is true. Raises AssertionError once the time is up."""
    deadline_s = asyncio.get_running_loop().time() + within_s
    while True:
        held = holds()
        if await held if inspect.isawaitable(held) else held:
            return
        if asyncio.get_running_loop().time() > deadline_s:
            raise AssertionError(f"still not so after {within_s:g} s: {inspect.getsource(holds).strip()}")
        await asyncio.sleep(every_s)


def wait_until(
    holds: Callable[[], object], *, within_s: float = 10, every_s: float = _LOOK_AGAIN_S, what: str | None = None
) -> None:
    """As `eventually`, for tests without an event loop. Raises AssertionError, with `what`, once the time is up."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"still not so after {within_s:g} s: {what or inspect.getsource(holds).strip()}")
        time.sleep(every_s)


async def every(period: timedelta) -> AsyncIterator[int]:
    """0, 1, 2, … at a steady pace, whatever is done in between: the beat of a load."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in count():
        await asyncio.sleep(max(0.0, began_s + number * period.total_seconds() - loop.time()))
        yield number
