"""Captures the log of a test, as a process would write it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from eai_common.settings.groups import TelemetrySettings
from eai_common.telemetry.logs import configure_logging, reset_logging

__all__ = ["CapturedLog", "LogLine", "captured_log"]

LogLine = dict[str, object]


class CapturedLog:
    """What was logged so far. `output` is where it goes."""

    def __init__(self) -> None:
        self.output = io.BytesIO()

    @property
    def text(self) -> str:
        return self.output.getvalue().decode()

    @property
    def lines(self) -> list[LogLine]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> LogLine:
        """The only line. Raises ValueError when there is another number of them."""
        (line,) = self.lines
        return line


@contextmanager
def captured_log(*, service: str = "tester", **environ: str) -> Iterator[CapturedLog]:
    """Configure logging by these variables, and put everything back afterwards."""
    root, captured = logging.getLogger(), CapturedLog()
    handlers, level = list(root.handlers), root.level
    configure_logging(TelemetrySettings.read(environ), service=service, output=captured.output)
    try:
        yield captured
    finally:
        reset_logging()
        root.handlers[:] = handlers
        root.setLevel(level)
