"""The metrics, named as the existing dashboards expect. No label holds a user's number or a message id."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from eai_common.errors import StageError

__all__ = ["Metrics"]

_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)


class Metrics:
    """Every metric of a process, on a registry of its own, so that two in one process never collide."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._define_http()
        self._define_stages()
        self._define_broker_and_redis()
        self._define_outside_calls()
        self._define_ordering()

    def _define_http(self) -> None:
        self.http_requests = self._counter("http_requests_total", "HTTP requests.", "method", "endpoint", "status")
        self.http_duration = self._histogram(
            "http_request_duration_seconds",
            "Time from the request's head to the answer's end.",
            ["method", "endpoint"],
            _HTTP_BUCKETS,
        )
        self.http_in_flight = self._gauge("http_requests_in_flight", "HTTP requests being answered.")
        self.rate_limited = self._counter(
            "http_rate_limit_decisions_total",
            "Requests by the rate limit's decision: allowed, refused, not_counted (Redis was out of reach).",
            "outcome",
        )

    def _define_stages(self) -> None:
        self.processed = self._counter(
            "message_processing_total",
            "Deliveries by outcome: done, retried, deferred, dead_lettered, handed_back.",
            "message_type",
            "stage",
            "outcome",
        )
        self.processing_duration = self._histogram(
            "message_processing_duration_seconds", "Time of a delivery in a stage.", ["type", "stage"], _STAGE_BUCKETS
        )
        self.processing_errors = self._counter(
            "message_processing_errors_total", "Errors by code.", "stage", "error_code"
        )
        self.busy_ratio = self._gauge(
            "worker_pool_utilization_ratio", "Deliveries in progress, as a share of the most allowed.", "stage"
        )

    def _define_broker_and_redis(self) -> None:
        self.queue_depth = self._gauge("message_queue_depth", "Ready messages.", "queue")
        self.queue_depth_total = self._gauge(
            "rabbitmq_queue_depth_total", "Ready messages in all queues that this process reads the depth of."
        )
        self.broker_connected = self._gauge(
            "rabbitmq_connection_status", "1 for the state of the connection.", "status"
        )
        self.published = self._counter("rabbitmq_messages_published_total", "Confirmed publishes.", "event")
        self.delivered = self._counter("rabbitmq_messages_delivered_total", "Received deliveries.", "queue")
        self.redis_connections = self._gauge("redis_connections_active", "Connections to Redis, in use or idle.")
        self.redis_pool_active = self._gauge("redis_connection_pool_active", "Connections to Redis in use.")
        self.redis_pool_max = self._gauge("redis_connection_pool_max", "Maximum of connections to Redis.")

    def _define_outside_calls(self) -> None:
        self.ai_service_calls = self._counter("ai_service_calls_total", "Questions to AI agents.", "provider")
        self.transcriptions = self._counter(
            "transcription_requests_total", "Recordings sent to a speech service.", "service"
        )
        self.external_calls = self._counter(
            "external_api_calls_total", "Calls to outside services.", "service", "status"
        )
        self.external_errors = self._counter(
            "external_api_errors_total", "Failed calls to outside services.", "service"
        )
        self.external_duration = self._histogram(
            "external_api_response_time_seconds", "Time of a call to an outside service.", ["service"], _STAGE_BUCKETS
        )
        self.fallbacks = self._counter(
            "agent_fallbacks_total", "Messages that went to the next provider.", "service", "instead"
        )
        self.breaker_state = self._gauge(
            "circuit_breaker_state", "1 for the breaker's state: closed, open, half_open.", "service", "state"
        )
        self.breaker_openings = self._counter(
            "circuit_breaker_openings_total", "How often the breaker opened.", "service"
        )

    def _define_ordering(self) -> None:
        self.agent_asked_again = self._counter(
            "agent_asked_again_total", "Questions that an agent may have received before, without a record.", "provider"
        )
        self.ordering_waited = self._counter("ordering_waits_total", "Deliveries that came before their turn.")
        self.messages_merged = self._counter("messages_merged_total", "Messages that were answered with a later one.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: list[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    @contextmanager
    def external_call(self, service: str) -> Iterator[None]:
        """Count and time one call to an outside service. Its status is `ok`, or the code of the raised error."""
        began_s = time.perf_counter()
        status = "ok"
        try:
            yield
        except BaseException as error:
            status = error.error_code if isinstance(error, StageError) else type(error).__name__
            self.external_errors.labels(service).inc()
            raise
        finally:
            self.external_calls.labels(service, status).inc()
            self.external_duration.labels(service).observe(time.perf_counter() - began_s)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)
