"""Redis commands of many callers in shared round trips.

What arrives while one pipeline is under way goes together in the next one: under load many requests share a round
trip, and a lone request waits for nobody. A Redis that is out of reach is waited for once, not by every caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from redis.exceptions import NoScriptError

from eai_common.background import run_alongside
from eai_common.store.client import Redis
from eai_common.store.errors import StoreUnavailable, map_redis_errors
from eai_common.store.scripts import Argument, Call
from eai_common.telemetry import get_logger

__all__ = ["Command", "CommandBatcher", "open_batcher"]

log = get_logger("eai.store")

_PATIENCE = timedelta(milliseconds=500)
_LOOK_AGAIN = timedelta(seconds=1)
_MOST_AT_ONCE = 512  # callers in one pipeline: a larger one would hold up those who wait behind it
_MOST_WAITING = 10_000  # callers; so many wait only for a Redis that is as good as down
_LOST = "Redis: out of reach a moment ago"
_STOPPING = "Redis: this process is stopping"


@dataclass(frozen=True, slots=True)
class Command:
    """One command that is no script. `options` are the client's own, for the reply."""

    arguments: tuple[Argument, ...]
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Caller:
    commands: Sequence[Command | Call]
    answered: asyncio.Future[list[object]]


class CommandBatcher:
    """Made by `open_batcher`."""

    def __init__(self, redis: Redis, patience: timedelta = _PATIENCE) -> None:
        self._redis = redis
        self._patience_s = patience.total_seconds()
        self._waiting: deque[_Caller] = deque()
        self._arrived = asyncio.Event()
        self._is_down = False
        self._is_closed = False

    @property
    def is_down(self) -> bool:
        """Whether Redis was out of reach when last tried: callers are then refused at once."""
        return self._is_down

    async def run(self, *commands: Command | Call) -> list[object]:
        """The commands' replies, in order, all from the same pipeline. A command must bear being sent twice: the client
        repeats a pipeline whose connection broke.

        Raises StoreUnavailable, at the latest after a wait that is short enough for a client to bear; else the first
        error reply. Commands of a call that was given up may have been carried out.
        """
        replies = await self.replies(*commands)
        for reply in replies:
            if isinstance(reply, Exception):
                with map_redis_errors():
                    raise reply
        return replies

    async def replies(self, *commands: Command | Call) -> list[object]:
        """As `run`, with an error reply among the others instead of raised. Raises StoreUnavailable."""
        if self._is_down:
            raise StoreUnavailable(_LOST)
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreUnavailable(f"Redis: {_MOST_WAITING} callers wait for it already")
        answered: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Caller(commands, answered))
        self._arrived.set()
        return await answered

    def close(self) -> None:
        """Refuse callers from now on, and let `send` end.

        Cancelling it is not enough: a cancellation can get lost in the client when it meets the end of
        `asyncio.wait_for` (source: python/cpython issue 86296, mended in 3.12).
        """
        self._is_closed = self._is_down = True
        self._arrived.set()

    async def send(self) -> None:
        """Send what arrives, until closed or cancelled."""
        try:
            while not self._is_closed:
                await self._arrived.wait()
                await self._send_together(self._take())
        finally:
            self.close()
            self._refuse_waiting(_STOPPING)

    def _take(self) -> list[_Caller]:
        callers: list[_Caller] = []
        while self._waiting and len(callers) < _MOST_AT_ONCE:
            caller = self._waiting.popleft()
            if not caller.answered.done():  # its caller has not been cancelled
                callers.append(caller)
        if not self._waiting:
            self._arrived.clear()
        return callers

    async def _send_together(self, callers: Sequence[_Caller]) -> None:
        try:
            replies = await self._execute([command for caller in callers for command in caller.commands])
        except StoreUnavailable as error:
            _refuse(callers, str(error))
            await self._wait_until_back()
            return
        except BaseException:
            _refuse(callers, _STOPPING)
            raise
        taken = 0
        for caller in callers:
            if not caller.answered.done():
                caller.answered.set_result(replies[taken : taken + len(caller.commands)])
            taken += len(caller.commands)

    async def _execute(self, commands: Sequence[Command | Call]) -> list[object]:
        try:
            async with asyncio.timeout(self._patience_s):
                replies = await self._pipeline([_by_name(command) for command in commands])
                unknown = {
                    number: Command(command.by_text)
                    for number, (command, reply) in enumerate(zip(commands, replies, strict=True))
                    if isinstance(command, Call) and isinstance(reply, NoScriptError)
                }
                if unknown:
                    again = await self._pipeline(tuple(unknown.values()))
                    for number, reply in zip(unknown, again, strict=True):
                        replies[number] = reply
                return replies
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis: no answer within {self._patience_s:g} s") from error

    async def _pipeline(self, commands: Sequence[Command]) -> list[object]:
        with map_redis_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command.arguments, **command.options)
                replies: list[object] = await pipeline.execute(raise_on_error=False)
                return replies

    async def _wait_until_back(self) -> None:
        self._is_down = True
        self._refuse_waiting(_LOST)
        log.warning("store_lost")
        while not self._is_closed:
            if await self._answers():
                self._is_down = False
                log.info("store_restored")
                return
            await asyncio.sleep(_LOOK_AGAIN.total_seconds())

    async def _answers(self) -> bool:
        try:
            await self._execute([Command(("PING",))])
        except StoreUnavailable:
            return False
        return True

    def _refuse_waiting(self, why: str) -> None:
        _refuse(self._waiting, why)
        self._waiting.clear()
        self._arrived.clear()


@asynccontextmanager
async def open_batcher(redis: Redis, patience: timedelta = _PATIENCE) -> AsyncIterator[CommandBatcher]:
    """A batcher that sends as long as the context is open. `patience` is the longest that one pipeline may take."""
    batcher = CommandBatcher(redis, patience)
    async with run_alongside({"redis-batcher": batcher.send()}):
        try:
            yield batcher
        finally:
            batcher.close()


def _by_name(command: Command | Call) -> Command:
    return Command(command.by_name) if isinstance(command, Call) else command


def _refuse(callers: Iterable[_Caller], why: str) -> None:
    for caller in callers:
        if not caller.answered.done():
            caller.answered.set_exception(StoreUnavailable(why))  # one each: raising an error adds to its traceback
