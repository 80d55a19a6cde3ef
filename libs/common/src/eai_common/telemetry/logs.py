"""Structured logs, one line for each event, with secrets and users' numbers taken out before anything is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
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
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^@/\s]+)@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
# Not inside a longer word, so that the digit groups of a UUID or of an RFC 3339 time are left alone.
_PHONE_NUMBER = re.compile(r"(?<![\w.:-])\+?\d{10,15}(?![\w.:-]*[\w:-])")
_HIDDEN = "[hidden]"


def get_logger(name: str) -> Logger:
    """A logger whose events are named in the past tense and carry their values as fields."""
    return structlog.stdlib.get_logger(name)


def masked_number(number: str) -> str:
    """A user's number with its middle hidden: `+55•••••1234`. Short or opaque ids keep two characters at each end."""
    if len(number) <= 8:
        return f"{number[:2]}•••"
    return f"{number[:3]}•••••{number[-4:]}"


def redacted(value: object, *, mask_numbers: bool = True) -> object:
    """The value without URL passwords, bearer tokens and users' numbers; containers are gone through."""
    if isinstance(value, str):
        text = _BEARER.sub(rf"\1 {_HIDDEN}", _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", value))
        return _PHONE_NUMBER.sub(lambda found: masked_number(found[0]), text) if mask_numbers else text
    if isinstance(value, Mapping):
        return {key: _redacted_field(str(key), item, mask_numbers) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item, mask_numbers=mask_numbers) for item in value]
    return value


def _redacted_field(name: str, value: object, mask_numbers: bool) -> object:
    if _SECRET_NAME.search(name) and isinstance(value, str | bytes):
        return _HIDDEN
    if mask_numbers and name in ("user", "user_number") and isinstance(value, str):
        return masked_number(value) if "•" not in value else value
    return redacted(value, mask_numbers=mask_numbers)


def configure_logging(settings: TelemetrySettings, *, service: str, stream: TextIO | None = None) -> None:
    """Send everything, the libraries' own logs too, through one redacting formatter to `stream` (default: stderr)."""

    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return cast(EventDict, redacted(event, mask_numbers=settings.mask_user_numbers))

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
    level = settings.log_level.upper()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "aio_pika", "aiormq", "uvicorn.access", "grpc", "google"):
        logging.getLogger(chatty).setLevel("WARNING")
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
