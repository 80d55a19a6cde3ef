"""Commands for Redis, and requests: commands with what their replies mean.

A store's methods give requests. A request is awaited alone, or together with others in one round trip:

    view = await tasks.read(message_id)
    view, last = await together(tasks.read(message_id), activity.read(user_number))

Nothing is sent before it is awaited; awaited twice, it is sent twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, overload

__all__ = [
    "Argument",
    "Command",
    "Reply",
    "Request",
    "Runner",
    "Script",
    "as_hash",
    "as_text",
    "command",
    "milliseconds",
    "pairs_of",
    "together",
    "together_all",
]

Argument = str | bytes | int | float
Reply = bytes | int | None | list["Reply"]
"""What Redis says in its protocol's second version; a hash is a flat list of fields and values."""

T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Of a script's call, `arguments` are what follows the script."""

    arguments: tuple[Argument, ...]
    script: Script | None = None

    @property
    def by_name(self) -> tuple[Argument, ...]:
        """The command as it is; a script's by the name that a Redis that has seen the script knows it by."""
        return self.arguments if self.script is None else ("EVALSHA", self.script.sha, *self.arguments)

    @property
    def by_text(self) -> tuple[Argument, ...]:
        """The command as it is; a script's with its text, by which Redis knows it afterwards."""
        return self.arguments if self.script is None else ("EVAL", self.script.text, *self.arguments)


def command(*arguments: Argument) -> Command:
    """A command that is no script: `command("GET", key)`."""
    return Command(arguments)


def milliseconds(duration: timedelta) -> int:
    """How Redis takes a time to live: in whole milliseconds, one at least."""
    return max(1, round(duration / timedelta(milliseconds=1)))


def as_text(reply: Reply) -> str:
    """The reply as text. Raises TypeError for any other."""
    if not isinstance(reply, bytes):
        raise TypeError(f"expected text from Redis, got {type(reply).__name__}")
    return reply.decode()


def as_hash(reply: Reply) -> dict[str, bytes]:
    """The reply to HGETALL. Raises TypeError for any other."""
    if not isinstance(reply, list):
        raise TypeError(f"expected fields and values from Redis, got {type(reply).__name__}")
    return {
        as_text(name): value for name, value in zip(reply[::2], reply[1::2], strict=True) if isinstance(value, bytes)
    }


def pairs_of(fields: Mapping[str, str]) -> list[str]:
    """How Redis takes a hash: each field, then its value."""
    return [part for pair in fields.items() for part in pair]


class Script:
    """A Lua script: its text, and the name that Redis knows it by. It costs no round trip to make it known."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Iterable[Argument] = ()) -> Command:
        """A call of it with these as KEYS and ARGV."""
        return Command((len(keys), *keys, *args), self)


class Runner(Protocol):
    """Runs commands."""

    async def run(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """The commands' replies, in order. Raises StoreUnavailable, else the first error reply."""


@dataclass(frozen=True, slots=True, eq=False)  # `asyncio.gather` awaits equals only once
class Request(Generic[T_co]):
    """Commands and what to make of their replies. To await it raises StoreUnavailable, and what `decode` raises."""

    runner: Runner
    commands: tuple[Command, ...]
    decode: Callable[[Sequence[Reply]], T_co]

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._run().__await__()

    async def _run(self) -> T_co:
        return self.decode(await self.runner.run(self.commands) if self.commands else ())


@overload
def together(first: Request[A], second: Request[B], /) -> Request[tuple[A, B]]: ...
@overload
def together(first: Request[A], second: Request[B], third: Request[C], /) -> Request[tuple[A, B, C]]: ...
@overload
def together(
    first: Request[A], second: Request[B], third: Request[C], fourth: Request[D], /
) -> Request[tuple[A, B, C, D]]: ...
def together(*requests: Request[Any]) -> Request[Any]:
    """The requests as one, in one round trip: what each gives, in order. The first one's client runs it."""
    return _combined(requests, tuple)


def together_all(requests: Sequence[Request[A]]) -> Request[list[A]]:
    """The requests, of which there is at least one, as one in one round trip."""
    return _combined(requests, list)


def _combined(requests: Sequence[Request[Any]], gathered: Callable[[Iterable[Any]], A]) -> Request[A]:
    def decode(replies: Sequence[Reply]) -> A:
        left = iter(replies)
        return gathered(request.decode([next(left) for _ in request.commands]) for request in requests)

    return Request(requests[0].runner, tuple(one for request in requests for one in request.commands), decode)
