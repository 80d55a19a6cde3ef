"""Tracing: one trace from the client's request through the broker, and nothing exported that a log would hide."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from eai_common.settings import TelemetrySettings
from eai_common.telemetry import Tracing, log_context, note_error, open_tracing, trace_headers, trace_id, trace_ids

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NUMBER = "+5521999990000"


@pytest.fixture()
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture()
def tracing(exported: InMemorySpanExporter) -> Iterator[Tracing]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    tracing = Tracing(provider)
    yield tracing
    tracing.close()


def test_outside_of_a_span_there_is_no_trace() -> None:
    assert (trace_id(), trace_ids(), trace_headers()) == (None, {}, {})


def test_a_span_without_a_carrier_begins_a_trace(tracing: Tracing) -> None:
    with tracing.span("work", carrier={}, kind=SpanKind.CONSUMER):
        assert trace_headers()["traceparent"].split("-")[1] == trace_id()


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_span_continues_the_trace_that_its_carrier_tells(tracing: Tracing, name: str) -> None:
    with tracing.span("work", carrier={name: TRACEPARENT, "x-eai-schema": 1}, kind=SpanKind.CONSUMER):
        assert trace_id() == TRACE


def test_the_vendors_part_of_a_trace_is_handed_on(tracing: Tracing) -> None:
    carrier = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    with tracing.span("work", carrier=carrier, kind=SpanKind.SERVER):
        assert trace_headers()["tracestate"] == "vendor=1"


def test_the_correlation_id_goes_along_as_the_caller_gave_it() -> None:
    with log_context(correlation_id=f"chat-{NUMBER}"):
        assert trace_headers() == {"x-correlation-id": f"chat-{NUMBER}"}


def test_a_line_of_the_log_names_the_span_that_it_was_written_in(tracing: Tracing) -> None:
    with tracing.span("work", carrier={"traceparent": TRACEPARENT}, kind=SpanKind.CONSUMER):
        _, trace, span, _ = trace_headers()["traceparent"].split("-")
        assert trace_ids() == {"trace_id": trace, "span_id": span}


def test_a_trace_runs_through_the_headers_of_a_message(tracing: Tracing) -> None:
    with tracing.span("first", carrier={}, kind=SpanKind.PRODUCER):
        first, headers = trace_id(), trace_headers()
    with tracing.span("second", carrier=headers, kind=SpanKind.CONSUMER):
        assert trace_id() == first


@pytest.mark.parametrize(
    "garbled", ["", "00-zz-b7ad6b7169203331-01", "x" * 1000, "ff-" + TRACEPARENT[3:], "00-" + "0" * 32]
)
def test_a_garbled_trace_is_not_continued_and_stops_nobody(tracing: Tracing, garbled: str) -> None:
    with tracing.span("work", carrier={"traceparent": garbled}, kind=SpanKind.SERVER):
        assert trace_id() not in (None, TRACE)


def test_an_error_that_is_noted_marks_the_span_by_its_type_only(
    tracing: Tracing, exported: InMemorySpanExporter
) -> None:
    with tracing.span("work", carrier={}, kind=SpanKind.CONSUMER):
        note_error(ValueError(f"no thread for {NUMBER}"))
    (span,) = exported.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")


def test_an_exception_goes_on_and_is_recorded_without_the_users_number(
    tracing: Tracing, exported: InMemorySpanExporter
) -> None:
    with (
        pytest.raises(ValueError, match="no thread"),
        tracing.span("work", carrier={}, kind=SpanKind.CONSUMER),
    ):
        raise ValueError(f"no thread for {NUMBER}")
    (span,) = exported.get_finished_spans()
    assert [event.name for event in span.events] == ["exception"]
    assert span.status.status_code == StatusCode.ERROR
    assert NUMBER[1:] not in span.to_json()


def test_without_an_exporter_nothing_is_sent_and_ids_still_flow() -> None:
    tracing = open_tracing(TelemetrySettings.read({}), service="poller")
    with tracing.span("work", carrier={"traceparent": TRACEPARENT}, kind=SpanKind.SERVER):
        assert trace_id() == TRACE
    tracing.close()


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP endpoint, and what came in."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def test_spans_are_exported_over_otlp_when_that_is_enabled_at_the_latest_when_it_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        tracing = open_tracing(TelemetrySettings.read({"OTEL_ENABLED": "true"}), service="poller")
        with tracing.span("GET /x", carrier={}, kind=SpanKind.SERVER):
            pass
        tracing.close()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"poller" in body
    assert b"GET /x" in body
