"""One connection to RabbitMQ that comes back by itself.

Why not aio-pika's robust connection, on whose protocol layer (aiormq) this stands. It restores channels and consumers
behind the caller's back: a publish made while it is down waits without end, deliveries of the dead channel stay in the
iterator and are handled although they cannot be acked, every declaration is replayed, and a failed restore is a log
line. Here a lost connection is an event that each user sees: publishing fails in time, a consumer drops what it had
prefetched and subscribes anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiormq import AMQPError, AuthenticationError, Connection, ProbableAuthenticationError

from eai_common.broker import BrokerUnavailable
from eai_common.telemetry import get_logger

__all__ = ["LOST", "ConnectionLost", "Link", "backoff_s", "masked", "on_wire"]

T = TypeVar("T")
log = get_logger("eai.broker")

_CONNECT_WITHIN_S = 15.0
_CLOSE_WITHIN_S = 5.0


class ConnectionLost(Exception):
    """The connection or channel died under an operation, which may or may not have had its effect."""


LOST = (ConnectionLost, AMQPError, OSError, TimeoutError)
"""What an operation raises when the connection or the channel is at fault."""


async def on_wire(operation: Awaitable[T]) -> T:
    """Await an aiormq operation; what its dying connection does to it becomes ConnectionLost.

    aiormq ends pending operations with whatever closed the connection, and that is often a CancelledError that
    nobody asked for: let through, it would end the caller's task as if that had been cancelled.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    try:
        return await operation
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > cancelled_before:
            raise
        raise ConnectionLost("the connection to the broker was lost") from error
    except RuntimeError as error:  # what aiormq raises when it finds a connection or channel closed
        raise ConnectionLost(str(error)) from error


class Link:
    """A connection with a supervisor (`keep`). `prepare` runs on each new connection before anybody else uses it."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        heartbeat: timedelta,
        random: Random,
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._url = _with_heartbeat(url, heartbeat)
        self._name = name
        self._random = random
        self._prepare = prepare
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._down_since_s = asyncio.get_running_loop().time()

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return self._connection is not None and not self._connection.is_closed

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has stopped reading from this connection: a memory or disk alarm.

        The broker tells only connections that publish, and only when they next do.
        """
        return self._connection is not None and not _finishes_at_once(self._connection.ready())

    @property
    def down_since_s(self) -> float | None:
        """When the connection was lost, in the loop's time; None while it is up."""
        return None if self.is_up else self._down_since_s

    async def connection(self) -> Connection:
        """The connection, as soon as there is one."""
        while self._connection is None or self._connection.is_closed:
            self._up.clear()
            await self._up.wait()
        return self._connection

    async def open(self, *, within: timedelta) -> None:
        """Connect for the first time. Raises BrokerUnavailable, TopologyMismatch or whatever `prepare` raises."""
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(within.total_seconds()):
                for pause_s in backoff_s(self._random):
                    try:
                        await self._connect()
                        return
                    except (AuthenticationError, ProbableAuthenticationError) as error:
                        raise BrokerUnavailable(f"{masked(self._url)} refused the user or the password") from error
                    except LOST as error:
                        failure = error
                        log.info("broker_connect_failed", connection=self._name, error=_said(error))
                    await asyncio.sleep(pause_s)
        except TimeoutError as late:
            raise BrokerUnavailable(
                f"no connection to {masked(self._url)} within {within.total_seconds():g} s: "
                f"{_said(failure) if failure else 'no answer'}"
            ) from (failure or late)

    async def keep(self) -> NoReturn:
        """Connect again whenever the connection is lost. Ends by cancellation, or by what `prepare` raises."""
        while True:
            connection = await self.connection()
            await asyncio.wait({connection.closing})
            self._down_since_s = asyncio.get_running_loop().time()
            log.warning("broker_connection_lost", connection=self._name)
            await self._reconnect()
            log.info("broker_connection_restored", connection=self._name)

    async def close(self) -> None:
        """Say goodbye, if there is somebody to say it to."""
        if self._connection is not None:
            await _close(self._connection)

    async def _reconnect(self) -> None:
        for pause_s in backoff_s(self._random):
            try:
                await self._connect()
                return
            except LOST as error:
                log.info("broker_connect_failed", connection=self._name, error=_said(error))
            await asyncio.sleep(pause_s)

    async def _connect(self) -> None:
        connection = Connection(self._url, client_properties={"connection_name": self._name})
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                await on_wire(connection.connect())
                await connection.ready()
                if self._prepare is not None:
                    await self._prepare(connection)
        except BaseException:
            await _close(connection)
            raise
        self._connection = connection
        self._up.set()


def backoff_s(random: Random) -> Iterator[float]:
    """Seconds to wait before each new try: doubling up to 3 s, with jitter, so that replicas come back one by one."""
    ceiling_s = 0.2
    while True:
        yield random.uniform(ceiling_s / 2, ceiling_s)
        ceiling_s = min(3.0, ceiling_s * 2)


def masked(url: str) -> str:
    """The address without password and query, for logs and errors. Raises ValueError, telling nothing of it."""
    try:
        parts = urlsplit(url)
        is_address = bool(parts.scheme in ("amqp", "amqps") and parts.hostname and "@" not in parts.path)
        port = parts.port
    except ValueError:
        is_address = False
    if not is_address or parts.fragment:
        # The text must not hold the address: a password with an unquoted / or # ends up in any part of it.
        raise ValueError(
            "the broker's address must look like amqp://user:password@host:5672/vhost (or amqps://), "
            "with special characters of the password percent-encoded"
        ) from None
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.hostname}{f':{port}' if port else ''}{parts.path}"


def _with_heartbeat(url: str, heartbeat: timedelta) -> str:
    masked(url)
    parts = urlsplit(url)
    query = {"heartbeat": str(max(1, round(heartbeat.total_seconds()))), **dict(parse_qsl(parts.query))}
    return urlunsplit(parts._replace(query=urlencode(query)))


def _finishes_at_once(ready: Coroutine[object, object, None]) -> bool:
    """Whether awaiting it would not suspend: aiormq tells nobody that it was blocked, but `ready` waits for the end."""
    try:
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _close(connection: Connection) -> None:
    with suppress(*LOST):
        await on_wire(connection.close(timeout=_CLOSE_WITHIN_S))
