"""Structured logs: one JSON line for each event, ours and the libraries', redacted before it is written."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from eai_common.clock import SystemClock
from eai_common.settings.groups import TelemetrySettings
from eai_common.telemetry.context import redacted_context
from eai_common.telemetry.redaction import redacted_fields

__all__ = ["Logger", "configure_logging", "get_logger", "reset_logging"]

Logger = FilteringBoundLogger

_CHATTY = ("httpx", "httpcore", "uvicorn.access", "grpc", "google")
_loggers: list[Logger] = []


def get_logger(name: str) -> Logger:
    """A logger whose events are named in the past tense and carry their values as fields."""
    logger: Logger = structlog.get_logger(name)
    _loggers.append(logger)
    return logger


def configure_logging(settings: TelemetrySettings, *, service: str, output: BinaryIO | None = None) -> None:
    """Write our lines and the libraries' to `output` (default: stderr), in one form and through one redactor."""
    reset_logging()
    file = output or sys.stderr.buffer
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            _line_of({"service": service, "worker_id": _worker_id()}, mask_numbers=settings.mask_user_numbers),
            _rendered_as_json if settings.log_format == "json" else _rendered_as_text(is_terminal=file.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lambda name=None: _Output(file, name=name),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(settings.log_level.upper())


def reset_logging() -> None:
    """Forget the configuration. Only tests need this: a process configures its log once."""
    structlog.reset_defaults()
    for logger in _loggers:
        vars(logger).pop("bind", None)  # where structlog's proxy keeps what it cached on the first use
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _LibraryHandler)]


class _LibraryHandler(logging.Handler):
    """Hands the libraries' lines to a logger of ours, which writes them like its own."""

    def __init__(self) -> None:
        super().__init__()
        self._log: Logger = structlog.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = min(record.levelno // 10 * 10, logging.CRITICAL)  # libraries invent levels between the usual ones
            stack = {} if record.stack_info is None else {"stack": record.stack_info}
            self._log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info, **stack)
        except Exception:  # noqa: BLE001 # as the standard library's handlers do: a log call never fails its caller
            self.handleError(record)


def _configure_libraries(level: str) -> None:
    # No line shows these, so Python need not look for them (source: Python's logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel("WARNING")
    logging.getLogger("aiormq").setLevel("CRITICAL")  # the broker's adapter reports each loss once, in our words


class _Output(structlog.BytesLogger):
    """Writes lines. A file that is gone, such as a broken pipe, fails no caller: there is nowhere left to report it."""

    def msg(self, message: bytes) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = msg


def _line_of(constant: EventDict, *, mask_numbers: bool) -> Processor:
    """Puts a line together: what each line has, what is bound, what the event brings. All but the first is redacted."""
    clock = SystemClock()
    redact = partial(redacted_fields, mask_numbers=mask_numbers)

    def line(logger: structlog.BytesLogger, level: str, event: EventDict) -> EventDict:
        timestamp = f"{clock.now().replace(tzinfo=None).isoformat()}Z"
        ours = {"timestamp": timestamp, "level": level, "event": "", "logger": logger.name, **constant}
        try:
            return {**ours, **redacted_context(redact), **redact(event)}
        except Exception as error:  # noqa: BLE001 # a value that raises when it becomes text must not fail the caller
            return {**ours, **redact({"event": f"{event['event']!s:.1000}"}), "unwritten": type(error).__name__}

    return line


def _worker_id() -> str:
    """Which replica this is. Kubernetes names a host after its pod."""
    return f"{socket.gethostname()}/{os.getpid()}"


def _rendered_as_json(_: WrappedLogger, __: str, line: EventDict) -> bytes:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # it takes no halves of surrogate pairs, and no number of more than 64 bits
        return json.dumps(line, default=str).encode()


def _rendered_as_text(*, is_terminal: bool) -> Processor:
    console = structlog.dev.ConsoleRenderer(colors=is_terminal)

    def rendered(logger: WrappedLogger, level: str, line: EventDict) -> bytes:
        return console(logger, level, line).encode(errors="backslashreplace")

    return rendered
