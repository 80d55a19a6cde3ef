"""One connection to RabbitMQ that reconnects by itself.

It uses aiormq, the protocol layer of aio-pika, and not aio-pika's robust connection, which restores channels and
consumers behind the caller's back: a publish made while it is down waits forever, deliveries of the dead channel stay
in the iterator and are handled although they cannot be acked, every declaration is repeated, and a failed restore is
only a log line. Here each user sees a lost connection: publishing fails before its deadline, a consumer drops what it
prefetched and subscribes again.
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

__all__ = ["LOST", "ConnectionLost", "Link", "backoff_s", "on_wire", "redact_url"]

T = TypeVar("T")
log = get_logger("eai.broker")

_CONNECT_WITHIN_S = 15.0
_CLOSE_WITHIN_S = 5.0
_REFUSED_LOGIN = (AuthenticationError, ProbableAuthenticationError)


class ConnectionLost(Exception):
    """The connection or channel died under an operation, which may or may not have had its effect."""


LOST = (ConnectionLost, AMQPError, OSError, TimeoutError)
"""What an operation raises when the connection or the channel is at fault."""


async def on_wire(operation: Awaitable[T]) -> T:
    """Await an aiormq operation. Raises ConnectionLost if the connection closes meanwhile.

    aiormq ends pending operations with whatever closed the connection, often a CancelledError that nobody asked for.
    Let through, it would end the caller's task as if that had been cancelled.
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
    """A connection and its supervisor. `prepare` runs on each new connection before anyone uses it."""

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
        self._failure: BaseException | None = None
        self._down_since_s = asyncio.get_running_loop().time()

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return self._connection is not None and not self._connection.is_closed

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has stopped reading from this connection because of a memory or disk alarm.

        The broker notifies only connections that publish, and only at their next publish.
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
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._connect_with_backoff(fatal=_REFUSED_LOGIN)
        except _REFUSED_LOGIN as error:
            raise BrokerUnavailable(f"{redact_url(self._url)} refused the user or the password") from error
        except TimeoutError as late:
            reason = "no answer" if self._failure is None else _describe(self._failure)
            raise BrokerUnavailable(
                f"no connection to {redact_url(self._url)} within {within.total_seconds():g} s: {reason}"
            ) from (self._failure or late)

    async def keep_connected(self) -> NoReturn:
        """Connect again whenever the connection is lost. Ends by cancellation, or by what `prepare` raises."""
        while True:
            connection = await self.connection()
            await asyncio.wait({connection.closing})
            self._down_since_s = asyncio.get_running_loop().time()
            log.warning("broker_connection_lost", connection=self._name)
            await self._connect_with_backoff()
            log.info("broker_connection_restored", connection=self._name)

    async def close(self) -> None:
        """Close the connection if one is open."""
        if self._connection is not None:
            await _close(self._connection)

    async def _connect_with_backoff(self, *, fatal: tuple[type[Exception], ...] = ()) -> None:
        """Try until connected; errors in `fatal` end the attempts."""
        for pause_s in backoff_s(self._random):
            try:
                await self._connect()
                return
            except fatal:
                raise
            except LOST as error:
                self._failure = error
                log.info("broker_connect_failed", connection=self._name, error=_describe(error))
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
    """Seconds to wait before each attempt: doubling up to 3 s, with jitter against a herd."""
    ceiling_s = 0.2
    while True:
        yield random.uniform(ceiling_s / 2, ceiling_s)
        ceiling_s = min(3.0, ceiling_s * 2)


def redact_url(url: str) -> str:
    """The address without password and query, for logs and errors. Raises ValueError without the address in it."""
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
    redact_url(url)
    parts = urlsplit(url)
    query = {"heartbeat": str(max(1, round(heartbeat.total_seconds()))), **dict(parse_qsl(parts.query))}
    return urlunsplit(parts._replace(query=urlencode(query)))


def _finishes_at_once(ready: Coroutine[object, object, None]) -> bool:
    """Whether awaiting it would not suspend: aiormq's `ready` waits while the connection is blocked."""
    try:
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _close(connection: Connection) -> None:
    with suppress(*LOST):
        await on_wire(connection.close(timeout=_CLOSE_WITHIN_S))
