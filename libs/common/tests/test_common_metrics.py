"""Metrics: the names and labels that dashboards use, and that two sets in one process stay apart."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eai_common.telemetry import Metrics


def families(metrics: Metrics) -> dict[str, str]:
    """Each metric's name as dashboards know it, and its kind."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(metrics.exposition().decode())
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("http_requests_total", "counter"),
        ("http_request_duration_seconds", "histogram"),
        ("http_requests_in_flight", "gauge"),
        ("message_processing_total", "counter"),
        ("message_processing_duration_seconds", "histogram"),
        ("message_processing_errors_total", "counter"),
        ("message_queue_depth", "gauge"),
        ("rabbitmq_connection_status", "gauge"),
        ("rabbitmq_messages_published_total", "counter"),
        ("rabbitmq_messages_delivered_total", "counter"),
        ("external_api_calls_total", "counter"),
        ("external_api_response_time_seconds", "histogram"),
        ("worker_pool_utilization_ratio", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
    ],
)
def test_a_metric_has_the_name_that_dashboards_use(name: str, kind: str) -> None:
    assert families(Metrics()).get(name) == kind


@pytest.mark.parametrize(
    ("attribute", "labels"),
    [
        ("http_requests", ("method", "endpoint", "status")),
        ("http_duration", ("method", "endpoint")),
        ("processed", ("message_type", "stage", "outcome")),
        ("processing_duration", ("type", "stage")),
        ("processing_errors", ("stage", "error_code")),
        ("queue_depth", ("queue",)),
        ("broker_connected", ("status",)),
        ("external_calls", ("service", "status")),
        ("external_duration", ("service",)),
        ("fallbacks", ("service", "instead")),
        ("breaker_state", ("service", "state")),
        ("breaker_openings", ("service",)),
        ("busy_ratio", ("stage",)),
    ],
)
def test_a_metric_has_the_labels_that_dashboards_use(attribute: str, labels: tuple[str, ...]) -> None:
    assert getattr(Metrics(), attribute)._labelnames == labels


def test_two_sets_of_metrics_in_one_process_do_not_collide() -> None:
    one, other = Metrics(), Metrics()
    one.published.labels("message.text").inc()
    assert b'rabbitmq_messages_published_total{event="message.text"} 1.0' in one.exposition()
    assert b"message.text" not in other.exposition()
