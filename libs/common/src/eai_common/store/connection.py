"""One connection to Redis, whose callers share round trips.

What arrives while one pipeline is under way goes together in the next one: under load many callers share a round trip,
and a lone caller waits for nobody. A Redis that is out of reach is waited for once, not by every caller.

Silence is counted only while this process listens: a blocked event loop is no silence of Redis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from math import inf
from typing import cast

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.connection import HiredisRespSerializer
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError

from eai_common.store.commands import Argument, Command, Reply, command
from eai_common.store.errors import BROKEN, StoreUnavailable, as_unavailable, is_broken, map_redis_errors
from eai_common.telemetry import get_logger

__all__ = ["SharedConnection"]

log = get_logger("eai.store")

_TICK_S = 0.05
_MOST_LATE_TICKS = 3  # in a row: a loop that is always late may still find that Redis is silent
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # between two looks whether Redis is back
_MOST_TOGETHER = 512  # callers in one pipeline: a larger one would hold up those who wait behind it
_MOST_BYTES = 4 * 2**20  # in one pipeline, but for a single caller's
_MOST_WAITING = 10_000  # callers; so many wait only for a Redis that is as good as down
_RESENDS = 2
_LOST = "Redis: out of reach a moment ago"
_STOPPING = "Redis: this process is stopping"

# In C: redis-py's asyncio connections use hiredis only to read. A script's call with a body of 700 bytes takes 4 µs to
# write instead of 19 (redis-py 8.1).
_pack: Callable[..., list[bytes]] = HiredisRespSerializer().pack

Answer = Reply | Exception


@dataclass(eq=False, slots=True)
class _Caller:
    commands: Sequence[Command]
    answered: asyncio.Future[list[Reply]]
    timeout_s: float
    gives_up_at: float  # in seconds of listening

    def answer(self, answers: list[Answer]) -> None:
        if self.answered.done():
            return
        for answer in answers:
            if isinstance(answer, Exception):
                self.answered.set_exception(as_unavailable(answer) or answer)
                return
        self.answered.set_result(cast(list[Reply], answers))

    def refuse(self, why: str, cause: BaseException | None = None) -> None:
        if not self.answered.done():
            error = StoreUnavailable(why)  # one for each caller: raising an error adds to its traceback
            error.__cause__ = cause
            self.answered.set_exception(error)


class SharedConnection:
    """Takes its connection from the pool, and another one when that has died.

    After `silence` of a Redis that owes answers the connection is taken for dead.
    """

    def __init__(self, pool: ConnectionPool, silence: timedelta) -> None:
        self._pool = pool
        self._silence_s = silence.total_seconds()
        self._connection: AbstractConnection | None = None
        self._known_scripts: set[str] = set()  # to the server, as far as this connection has told
        self._waiting: deque[_Caller] = deque()
        self._in_flight: Sequence[_Caller] = ()
        self._limit: asyncio.Timeout | None = None
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._is_demoted = False
        self._in_vain_s = 0.0  # the longest wait that was given up since Redis last answered
        self._listened_s = 0.0
        self._silent_s = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._late_ticks = 0

    async def run(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """The commands' replies, in order, all from the same pipeline. A command must bear being sent twice: it is
        repeated when the connection broke.

        Raises StoreUnavailable, at the latest after `timeout_s`; else the first error reply. Commands of a call that
        was given up may have been carried out.
        """
        if self._is_closed or timeout_s <= self._in_vain_s:
            raise StoreUnavailable(_STOPPING if self._is_closed else _LOST)
        if len(self._waiting) >= _MOST_WAITING:
            raise StoreUnavailable(f"Redis: {_MOST_WAITING} callers wait for it already")
        caller = self._caller(commands, timeout_s)
        self._waiting.append(caller)
        self._arrived.set()
        self._listen()
        return await caller.answered

    def close(self) -> None:
        """Refuse callers from now on, and let `serve` end.

        Cancelling it is not enough: a cancellation can get lost in redis-py when it meets the end of
        `asyncio.wait_for` (source: python/cpython issue 86296, fixed in 3.12).
        """
        self._is_closed = True
        self._arrived.set()

    async def serve(self) -> None:
        """Send what arrives, until closed or cancelled."""
        try:
            while not self._is_closed:
                await self._arrived.wait()
                try:
                    await self._answer(self._take())
                except StoreUnavailable as error:
                    self._lose(inf, str(error))
                    await self._wait_until_back()
        finally:
            self.close()
            self._refuse(self._waiting, _STOPPING)
            if self._tick is not None:
                self._tick.cancel()
            await self._disconnect()

    def _caller(self, commands: Sequence[Command], timeout_s: float) -> _Caller:
        answered: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        return _Caller(commands, answered, timeout_s, self._listened_s + _TICK_S + timeout_s)

    def _take(self) -> list[_Caller]:
        callers: list[_Caller] = []
        while self._waiting and len(callers) < _MOST_TOGETHER:
            caller = self._waiting.popleft()
            if not caller.answered.done():  # it was neither cancelled nor refused
                callers.append(caller)
        if not self._waiting:
            self._arrived.clear()
        return callers

    async def _answer(self, callers: Sequence[_Caller]) -> None:
        """Raises StoreUnavailable when Redis is lost; the callers are answered or refused in any case."""
        self._in_flight, self._silent_s = callers, 0.0
        why: str = _STOPPING
        cause: BaseException | None = None
        try:
            async with asyncio.timeout(None) as self._limit:
                with map_redis_errors():
                    await self._exchange(callers)
        except TimeoutError as error:
            why, cause = f"Redis: no answer within {self._silence_s:g} s", error
            raise StoreUnavailable(why) from error
        except StoreUnavailable as error:
            why, cause = str(error), error.__cause__
            self._refuse(self._waiting, _LOST)
            raise
        finally:
            self._in_flight, self._limit = (), None
            self._refuse(callers, why, cause)

    # Sending and reading

    async def _exchange(self, callers: Sequence[_Caller]) -> None:
        left, resends = callers, 0
        while left:
            connection = self._connection or await self._connect()
            try:
                await self._send(connection, left)
            except BROKEN as error:
                await self._disconnect()
                if not is_broken(error) or resends == _RESENDS:
                    raise
                resends += 1
            left = [caller for caller in left if not caller.answered.done()]
        if self._is_demoted:  # behind its address there may be a primary by now
            await self._disconnect()

    async def _send(self, connection: AbstractConnection, callers: Sequence[_Caller]) -> None:
        """Answer as many of the callers as fit in one pipeline."""
        packed, number = self._packed(callers)
        await connection.send_packed_command(packed, check_health=False)
        again: list[tuple[_Caller, list[Answer]]] = []
        for caller in callers[:number]:
            answers = [await self._read(connection) for _ in caller.commands]
            if any(isinstance(answer, NoScriptError) for answer in answers):
                again.append((caller, answers))
            else:
                caller.answer(answers)
        for caller, answers in again:
            await self._run_by_text(connection, caller.commands, answers)
            caller.answer(answers)

    def _packed(self, callers: Sequence[_Caller]) -> tuple[list[bytes], int]:
        packed: list[bytes] = []
        size = 0
        for number, caller in enumerate(callers):
            if size > _MOST_BYTES:
                return packed, number
            for one in caller.commands:
                packed += _pack(*self._words(one))
                size += len(packed[-1])
        return packed, len(callers)

    def _words(self, one: Command) -> tuple[Argument, ...]:
        if one.script is None or one.script.sha in self._known_scripts:
            return one.by_name
        self._known_scripts.add(one.script.sha)
        return one.by_text

    async def _run_by_text(
        self, connection: AbstractConnection, commands: Sequence[Command], answers: list[Answer]
    ) -> None:
        """Run those again whose script the server had forgotten."""
        for number, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                await connection.send_packed_command(_pack(*commands[number].by_text), check_health=False)
                answers[number] = await self._read(connection)

    async def _read(self, connection: AbstractConnection) -> Answer:
        try:
            reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except (ResponseError, BusyLoadingError) as error:
            self._is_demoted |= isinstance(error, ReadOnlyError)
            self._hear()
            return error
        self._hear()
        return cast(Reply, reply)

    async def _connect(self) -> AbstractConnection:
        try:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except ResponseError as error:  # whatever it is, it is said to every connection of every process
            raise as_unavailable(error) or StoreUnavailable(f"Redis: refuses the connection: {error}") from error
        self._known_scripts.clear()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection, self._is_demoted = self._connection, None, False
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            finally:
                await self._pool.release(connection)

    # Silence and outages

    def _hear(self) -> None:
        self._silent_s = 0.0
        if self._in_vain_s:
            self._in_vain_s = 0.0
            log.info("store_restored")

    def _listen(self) -> None:
        if self._tick is None:
            loop = asyncio.get_running_loop()
            self._tick_due = loop.time() + _TICK_S
            self._tick = loop.call_at(self._tick_due, self._count)

    def _count(self) -> None:
        """Count a tick of silence, unless the loop was blocked: then an answer may be there that nobody has read."""
        late_s = asyncio.get_running_loop().time() - self._tick_due
        self._tick = None
        if not self._in_flight and not self._waiting:
            return
        self._listen()
        self._late_ticks = self._late_ticks + 1 if late_s > _TICK_S else 0
        if 0 < self._late_ticks <= _MOST_LATE_TICKS:
            return
        self._late_ticks = 0
        self._listened_s += _TICK_S
        self._silent_s += _TICK_S
        self._refuse_overdue()
        if self._silent_s > self._silence_s and self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0)

    def _refuse_overdue(self) -> None:
        for caller in self._everyone():
            if caller.gives_up_at <= self._listened_s and not caller.answered.done():
                caller.refuse(f"Redis: no answer within {caller.timeout_s:g} s")
                self._lose(caller.timeout_s, "silent")

    def _everyone(self) -> Iterator[_Caller]:
        return chain(self._in_flight, self._waiting)

    def _lose(self, in_vain_s: float, why: str) -> None:
        if not self._in_vain_s:
            log.warning("store_lost", error=why)
        self._in_vain_s = max(self._in_vain_s, in_vain_s)

    async def _wait_until_back(self) -> None:
        """Ask until there is an answer."""
        await self._disconnect()
        pause_s = _FIRST_PAUSE_S
        while not self._is_closed:
            probe = self._caller([command("PING")], inf)
            probe.answered.add_done_callback(asyncio.Future.exception)  # nobody awaits it, nor minds its error
            try:
                await self._answer([probe])
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                return

    def _refuse(self, callers: Iterable[_Caller], why: str, cause: BaseException | None = None) -> None:
        for caller in callers:
            caller.refuse(why, cause)
