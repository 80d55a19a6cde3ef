"""Structured logs, one line for each event, with secrets and users' numbers taken out before anything is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from eai_common.settings.groups import TelemetrySettings

__all__ = ["Logger", "configure_logging", "get_logger", "masked_number", "redacted"]

Logger = structlog.stdlib.BoundLogger

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|authorization|api_?key|cookie|credential|signature", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/?#\s]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
# In a query (`token=…`) or in the text form of JSON or a dict (`"token": "…"`).
_NAMED_SECRET = re.compile(
    r"""((?:password|passwd|secret|token|api[_-]?key|credential|signature)(?:=|["']\s*:\s*["']))[^\s&"',;]+""",
    re.IGNORECASE,
)
# A UUID is found first and kept: its last group may look like a number. Digits inside a longer word or behind a
# decimal point are none.
_PHONE_NUMBER = re.compile(
    r"(?P<uuid>(?<![^\W_])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![^\W_]))"
    r"|\+[0-9]{8,15}(?![0-9])"
    r"|(?<![^\W_])(?<![0-9]\.)[0-9]{10,15}(?![^\W_])(?!\.[0-9])",
    re.IGNORECASE,
)
# What secrets, and what numbers need; most texts have none of it, and every line of the log comes through here.
_MAY_BE_SECRET = re.compile(r"[:=]|bearer|basic", re.IGNORECASE)
_MAY_BE_NUMBER = re.compile(r"[0-9]{8}")
_HIDDEN = "[hidden]"
_OURS = ("timestamp", "level", "service")


def get_logger(name: str) -> Logger:
    """A logger whose events are named in the past tense and carry their values as fields."""
    return structlog.stdlib.get_logger(name)


def masked_number(number: str) -> str:
    """A user's number with its middle hidden: `+55•••••1234`. Shorter ones and opaque ids keep less, or nothing."""
    if len(number) < 6:
        return "•••"
    if len(number) < 12:
        return f"{number[:2]}•••{number[-2:]}"
    return f"{number[:3]}•••••{number[-4:]}"


def redacted(value: object, *, mask_numbers: bool = True) -> object:
    """The value without secrets and users' numbers. Containers are gone through; other objects become their text."""
    if value is None or isinstance(value, int | float | datetime):
        return value
    if isinstance(value, str):
        return _redacted_text(value, mask_numbers)
    if isinstance(value, Mapping):
        return {
            _redacted_name(str(key), mask_numbers): _redacted_field(str(key), item, mask_numbers)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item, mask_numbers=mask_numbers) for item in value]
    # Not left to the renderer: what an object, an exception say, has to tell would come after the redaction.
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return _redacted_text(text, mask_numbers)


# Keys repeat, as the calls to the log do.
@lru_cache(maxsize=1024)
def _redacted_name(name: str, mask_numbers: bool) -> str:
    return _redacted_text(name, mask_numbers)


def _redacted_text(text: str, mask_numbers: bool) -> str:
    if _MAY_BE_SECRET.search(text) is not None:
        text = _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", text)
        text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
        text = _NAMED_SECRET.sub(rf"\1{_HIDDEN}", text)
    if mask_numbers and _MAY_BE_NUMBER.search(text) is not None:
        text = _PHONE_NUMBER.sub(_masked_match, text)
    return text


def _masked_match(found: re.Match[str]) -> str:
    return found[0] if found["uuid"] else masked_number(found[0])


def _redacted_field(name: str, value: object, mask_numbers: bool) -> object:
    if _is_secret_name(name):
        return _hidden(value)
    if mask_numbers and name in ("user", "user_number") and isinstance(value, str) and "•" not in value:
        return masked_number(value)
    return redacted(value, mask_numbers=mask_numbers)


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _hidden(value: object) -> object:
    """Nothing of it but numbers, which are counts of tokens; and how many there are."""
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(item) for item in value]
    return _HIDDEN


def _redacted_event(event: EventDict, mask_numbers: bool) -> EventDict:
    """The event redacted, but for the fields that the processors before wrote themselves."""
    ours = {name: event[name] for name in _OURS if name in event}
    for name in ours:
        del event[name]
    return {**cast(EventDict, redacted(event, mask_numbers=mask_numbers)), **ours}


def configure_logging(settings: TelemetrySettings, *, service: str, stream: TextIO | None = None) -> None:
    """Send everything, the libraries' own logs too, through one redacting formatter to `stream` (default: stderr)."""

    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return _redacted_event(event, settings.mask_user_numbers)

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
    ]
    rendered: list[Processor] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(serializer=_json)]
        if settings.log_format == "json"
        else [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=_is_terminal(stream))]
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    # What no line of ours shows is not looked for either (source: Python's logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    level = settings.log_level.upper()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "uvicorn.access", "grpc", "google"):
        logging.getLogger(chatty).setLevel("WARNING")
    logging.getLogger("aiormq").setLevel("CRITICAL")  # the broker's adapter tells of each loss once, in our words
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _json(event: object, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _is_terminal(stream: TextIO | None) -> bool:
    return (stream or sys.stderr).isatty()
