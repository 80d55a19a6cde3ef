"""What every line of a request or a delivery carries, and the fields that are collected for its one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

__all__ = ["add_to_line", "bound_fields", "collect_line", "log_context", "redacted_context", "time_to_line"]

Fields = dict[str, object]
Redact = Callable[[Mapping[str, object]], Fields]


class _Bound:
    """The fields of a context. They are redacted once, when the first line needs them."""

    __slots__ = ("_redacted", "fields")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._redacted: Fields | None = None

    def redacted(self, redact: Redact) -> Fields:
        if self._redacted is None:
            self._redacted = redact(self.fields)
        return self._redacted


_bound: ContextVar[_Bound] = ContextVar("eai_log_context", default=_Bound({}))
_line: ContextVar[Fields | None] = ContextVar("eai_log_line", default=None)


def log_context(**fields: object) -> AbstractContextManager[None]:
    """Bind fields to every line that this task, and what it starts, writes inside of the block. None binds nothing."""
    return _Binding(fields)


class _Binding(AbstractContextManager[None]):
    __slots__ = ("_fields", "_token")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        given = {name: value for name, value in self._fields.items() if value is not None}
        self._token = _bound.set(_Bound({**_bound.get().fields, **given}))

    def __exit__(self, *_: object) -> None:
        _bound.reset(self._token)


def bound_fields() -> Mapping[str, object]:
    """What `log_context` has bound here, as it was given."""
    return _bound.get().fields


def redacted_context(redact: Redact) -> Fields:
    """What `log_context` has bound here, redacted."""
    return _bound.get().redacted(redact)


@contextmanager
def collect_line() -> Iterator[Fields]:
    """Gives the dict that `add_to_line` fills inside of the block. Whoever opens it writes the one line with it."""
    fields: Fields = {}
    token = _line.set(fields)
    try:
        yield fields
    finally:
        _line.reset(token)


def add_to_line(**fields: object) -> None:
    """Add fields to the one line of the current request or delivery. Outside of both this does nothing."""
    line = _line.get()
    if line is not None:
        line.update(fields)


@contextmanager
def time_to_line(name: str) -> Iterator[None]:
    """Add the milliseconds that the block took to the one line. Blocks of the same name add up."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        yield
    finally:
        line = _line.get()
        if line is not None:
            before = line.get(name, 0.0)
            took_ms = (loop.time() - began_s) * 1000
            line[name] = round((before if isinstance(before, float) else 0.0) + took_ms, 1)
