"""The metrics, by the names that the existing dashboards use. No label holds a user's number or a message id."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
        self.http_requests = Counter(
            "http_requests_total", "HTTP requests.", ["method", "endpoint", "status"], registry=self.registry
        )
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "Time from the request's head to the answer's end.",
            ["method", "endpoint"],
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self.http_in_flight = Gauge("http_requests_in_flight", "HTTP requests being answered.", registry=self.registry)
        self.rate_limited = Counter(
            "http_rate_limit_decisions_total",
            "Requests by what the rate limit said: allowed, refused, not_counted (Redis was out of reach).",
            ["outcome"],
            registry=self.registry,
        )
        self.processed = Counter(
            "message_processing_total",
            "Deliveries by outcome: done, retried, deferred, dead_lettered, handed_back.",
            ["message_type", "stage", "outcome"],
            registry=self.registry,
        )
        self.processing_duration = Histogram(
            "message_processing_duration_seconds",
            "Time one delivery spent in a stage.",
            ["type", "stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self.processing_errors = Counter(
            "message_processing_errors_total", "Errors by code.", ["stage", "error_code"], registry=self.registry
        )
        self.queue_depth = Gauge("message_queue_depth", "Ready messages.", ["queue"], registry=self.registry)
        self.queue_depth_total = Gauge(
            "rabbitmq_queue_depth_total",
            "Ready messages in all queues that this process watches.",
            registry=self.registry,
        )
        self.redis_connections = Gauge(
            "redis_connections_active", "Connections to Redis, in use or waiting.", registry=self.registry
        )
        self.redis_pool_active = Gauge(
            "redis_connection_pool_active", "Connections to Redis in use.", registry=self.registry
        )
        self.redis_pool_max = Gauge("redis_connection_pool_max", "Most connections to Redis.", registry=self.registry)
        self.ai_service_calls = Counter(
            "ai_service_calls_total", "Questions to AI agents.", ["provider"], registry=self.registry
        )
        self.transcriptions = Counter(
            "transcription_requests_total", "Recordings sent to a speech service.", ["service"], registry=self.registry
        )
        self.broker_connected = Gauge(
            "rabbitmq_connection_status",
            "1 for the state that the connection is in.",
            ["status"],
            registry=self.registry,
        )
        self.published = Counter(
            "rabbitmq_messages_published_total", "Confirmed publishes.", ["event"], registry=self.registry
        )
        self.delivered = Counter(
            "rabbitmq_messages_delivered_total", "Deliveries received.", ["queue"], registry=self.registry
        )
        self.external_calls = Counter(
            "external_api_calls_total", "Calls to outside services.", ["service", "status"], registry=self.registry
        )
        self.external_errors = Counter(
            "external_api_errors_total",
            "Calls to outside services that failed.",
            ["service"],
            registry=self.registry,
        )
        self.external_duration = Histogram(
            "external_api_response_time_seconds",
            "Time an outside service took.",
            ["service"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "agent_fallbacks_total",
            "Messages that were given to the next provider.",
            ["service", "instead"],
            registry=self.registry,
        )
        self.breaker_state = Gauge(
            "circuit_breaker_state",
            "1 for the state that the breaker is in: closed, open, half_open.",
            ["service", "state"],
            registry=self.registry,
        )
        self.breaker_openings = Counter(
            "circuit_breaker_openings_total", "Times that the breaker opened.", ["service"], registry=self.registry
        )
        self.agent_asked_again = Counter(
            "agent_asked_again_total",
            "Questions to an agent that may have had them before, as nobody noted what came of them.",
            ["provider"],
            registry=self.registry,
        )
        self.ordering_passed = Counter(
            "ordering_passed_total",
            "Messages that were stuck, so that their user's next one was taken first.",
            registry=self.registry,
        )
        self.ordering_waited = Counter(
            "ordering_waits_total", "Deliveries that came before their turn.", registry=self.registry
        )
        self.messages_merged = Counter(
            "messages_merged_total", "Messages that were answered with a later one.", registry=self.registry
        )
        self.busy_ratio = Gauge(
            "worker_pool_utilization_ratio",
            "Deliveries in work against the most allowed.",
            ["stage"],
            registry=self.registry,
        )

    @contextmanager
    def external_call(self, service: str) -> Iterator[None]:
        """Count and time one call to an outside service. Its status is `ok`, or the code of the error that came out."""
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
