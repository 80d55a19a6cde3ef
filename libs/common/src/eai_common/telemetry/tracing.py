"""W3C trace context and correlation id: taken from HTTP, carried in the broker's headers, put on every log line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eai_common.settings.groups import TelemetrySettings
from eai_common.telemetry.context import bound_fields
from eai_common.telemetry.redaction import redacted

__all__ = ["CORRELATION_ID", "Tracing", "note_error", "open_tracing", "trace_headers", "trace_id", "trace_ids"]

CORRELATION_ID = "x-correlation-id"
"""The header that carries the correlation id, in HTTP and in the broker."""
_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Spans of one service. Without an exporter the ids still travel, so that the logs of all stages share them."""

    def __init__(self, provider: TracerProvider, *, mask_numbers: bool = True, is_recording: bool = True) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("eai")
        self._mask_numbers = mask_numbers
        self._is_recording = is_recording

    @contextmanager
    def span(self, name: str, *, carrier: Mapping[str, str | int], kind: SpanKind) -> Iterator[Span]:
        """Open a span that continues the trace in `carrier`, or begins one. It records an exception and lets it on."""
        with self._start(name, _extract(carrier), kind) as span:
            try:
                yield span
            except Exception as error:
                note_error(error)
                span.add_event("exception", self._describe(error))
                raise

    def _start(self, name: str, context: Context, kind: SpanKind) -> AbstractContextManager[Span]:
        if not self._is_recording:
            return trace.use_span(NonRecordingSpan(self._next_context(context)))
        return self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            record_exception=False,  # `span` does: the library would export the text unredacted
            set_status_on_exception=False,
        )

    def _next_context(self, context: Context) -> SpanContext:
        """The context that a recorded span would have: nothing exports it, but the logs share its ids."""
        before = trace.get_current_span(context).get_span_context()
        ids = self._provider.id_generator
        if not before.is_valid:
            sampled = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False, trace_flags=sampled)
        return SpanContext(before.trace_id, ids.generate_span_id(), False, before.trace_flags, before.trace_state)

    def _describe(self, error: Exception) -> dict[str, str]:
        """The attributes that OpenTelemetry's conventions name, redacted like the log."""
        attributes = {
            "exception.type": type(error).__qualname__,
            "exception.message": str(error),
            "exception.stacktrace": "".join(traceback.format_exception(error)),
        }
        return {name: str(redacted(text, mask_numbers=self._mask_numbers)) for name, text in attributes.items()}

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()


def open_tracing(settings: TelemetrySettings, *, service: str) -> Tracing:
    """Tracing for a service. It exports over OTLP/HTTP if the settings say so; the standard OTEL_* variables apply."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if settings.otel_enabled:
        # Imported only here: the exporter imports a second HTTP client, which a process without tracing does not need.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, mask_numbers=settings.mask_user_numbers, is_recording=settings.otel_enabled)


def trace_headers() -> dict[str, str]:
    """The headers that let the next stage continue this: `traceparent`, `tracestate` and the correlation id.

    Each is left out where there is none: the first two outside of a span, the last where `log_context` bound none.
    """
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    correlation_id = bound_fields().get("correlation_id")
    if correlation_id is not None:
        carrier[CORRELATION_ID] = str(correlation_id)
    return carrier


def trace_id() -> str | None:
    """The current trace's id, 32 hexadecimal digits; None outside of a span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def trace_ids() -> dict[str, str]:
    """The current span's `trace_id` and `span_id` as fields of a log line; empty outside of a span."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context.is_valid else {}


def note_error(error: BaseException) -> None:
    """Mark the current span as failed."""
    span = trace.get_current_span()
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _extract(carrier: Mapping[str, str | int]) -> Context:
    return _PROPAGATOR.extract({key.lower(): str(value) for key, value in carrier.items()})
