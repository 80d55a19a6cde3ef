"""Logs with redaction, Prometheus metrics, and the trace context that follows a message through the broker."""

from eai_common.telemetry.logs import Logger, configure_logging, get_logger, masked_number, redacted
from eai_common.telemetry.metrics import Metrics
from eai_common.telemetry.tracing import Tracing, note_error, open_tracing, trace_headers, trace_id

__all__ = [
    "Logger",
    "Metrics",
    "Tracing",
    "configure_logging",
    "get_logger",
    "masked_number",
    "note_error",
    "open_tracing",
    "redacted",
    "trace_headers",
    "trace_id",
]
