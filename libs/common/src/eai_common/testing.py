"""What the tests of every package share: time that costs none, chance that repeats, and waiting for a condition."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random

import looptime

__all__ = ["RANDOM", "LoopClock", "eventually", "pass_time"]

RANDOM = Random(0)  # noqa: S311  # repeatable is what it is for
"""Chance in tests: one for all, so that no two ids are the same; `conftest.py` seeds it anew for each test."""

_LOOK_AGAIN_S = 0.01
_TURNS_TO_SETTLE = 100


class LoopClock:
    """A clock that goes with the event loop: in a test marked `virtual_time` an hour passes at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self.start = start  # the date when the loop's time is 0, which is when a virtual loop begins

    def now(self) -> datetime:
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())


async def pass_time(duration: timedelta) -> None:
    """Let virtual time pass, and happen what is due in it. Raises AssertionError in real time: wait for a condition."""
    if not isinstance(asyncio.get_running_loop(), looptime.LoopTimeEventLoop):
        raise AssertionError("time passes at will only in a test that is marked `virtual_time`")
    await asyncio.sleep(duration.total_seconds())
    for _ in range(_TURNS_TO_SETTLE):  # what is due at the very end happens, too
        await asyncio.sleep(0)


async def eventually(holds: Callable[[], object | Awaitable[object]], *, within_s: float = 5) -> None:
    """Return as soon as `holds` is true. Raises AssertionError once the time is up."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while True:
        held = holds()
        if await held if inspect.isawaitable(held) else held:
            return
        if loop.time() > deadline_s:
            raise AssertionError(f"still not so after {within_s:g} s: {inspect.getsource(holds).strip()}")
        await asyncio.sleep(_LOOK_AGAIN_S)
