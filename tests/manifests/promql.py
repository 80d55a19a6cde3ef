"""The metrics and labels that a PromQL expression asks for, and those that the services export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
from prometheus_client.metrics import MetricWrapperBase

from eai_common.telemetry import Metrics

__all__ = ["TARGET_LABELS", "Selector", "exported", "selectors"]

TARGET_LABELS = frozenset({"namespace", "pod", "service", "job", "instance", "container", "endpoint", "le", "__name__"})
"""What Prometheus knows of every series that it scrapes by a ServiceMonitor, and `le` of a histogram's buckets."""


@dataclass(frozen=True)
class Selector:
    """One metric that an expression reads, with the labels that it picks by."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> Iterator[Selector]:
    """Every metric in the expression. Raises ValueError when it is not PromQL."""
    yield from _within(promql_parser.parse(expression))


def _within(node: object) -> Iterator[Selector]:
    if isinstance(node, promql_parser.VectorSelector):
        matchers = frozenset(matcher.name for matcher in node.matchers.matchers)
        yield Selector(node.name or "", matchers)
        return
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        if (inner := getattr(node, name, None)) is not None:
            yield from _within(inner)
    for argument in getattr(node, "args", ()):
        yield from _within(argument)


def exported() -> dict[str, frozenset[str]]:
    """Name to labels of every series that a service exports."""
    metrics = Metrics()
    found = {
        sample.name: frozenset(sample.labels) for family in metrics.registry.collect() for sample in family.samples
    }
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
                found |= {family.name + suffix: frozenset(metric._labelnames) for suffix in suffixes}
    return found
