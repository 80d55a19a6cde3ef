"""Logs with redaction, Prometheus metrics, and the trace context that follows a message through the broker."""

from eai_common.telemetry.context import add_to_line, collect_line, log_context, time_to_line
from eai_common.telemetry.logs import Logger, configure_logging, get_logger, reset_logging
from eai_common.telemetry.metrics import Metrics
from eai_common.telemetry.redaction import masked_number, redacted
from eai_common.telemetry.tracing import (
    CORRELATION_ID,
    Tracing,
    note_error,
    open_tracing,
    trace_headers,
    trace_id,
    trace_ids,
)

__all__ = [
    "CORRELATION_ID",
    "Logger",
    "Metrics",
    "Tracing",
    "add_to_line",
    "collect_line",
    "configure_logging",
    "get_logger",
    "log_context",
    "masked_number",
    "note_error",
    "open_tracing",
    "redacted",
    "reset_logging",
    "time_to_line",
    "trace_headers",
    "trace_id",
    "trace_ids",
]
