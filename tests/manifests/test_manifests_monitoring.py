"""Whether alerts and dashboard ask for what the services export, and an alert leads to a page that explains it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from manifests.promql import TARGET_LABELS, exported, selectors
from manifests.rendering import DEPLOY, STAGES, Manifest, Rendered, rendered

DASHBOARD = json.loads((DEPLOY / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))
OPERATIONS = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")
# Exported by kube-state-metrics, by the names that its documentation gives.
OF_KUBERNETES = {
    "kube_deployment_status_replicas_available",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
}


def alerts() -> list[Manifest]:
    (rules,) = rendered("prod").of("PrometheusRule")
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def panels() -> Iterator[Manifest]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> Iterator[str]:
    """Every query of the dashboard, as Prometheus would get it."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$namespace", "eai-gateway")


def mistakes(expression: str) -> list[str]:
    """What the expression asks for that nothing exports."""
    known = exported()
    return [
        f"{selector.metric} {sorted(selector.labels)}"
        for selector in selectors(expression)
        if selector.metric not in OF_KUBERNETES
        and not (selector.metric in known and selector.labels <= known[selector.metric] | TARGET_LABELS)
    ]


def test_every_alert_is_promql_over_metrics_that_exist() -> None:
    assert [found for alert in alerts() for found in mistakes(alert["expr"])] == []


def test_every_query_of_the_dashboard_is_promql_over_metrics_that_exist() -> None:
    assert [found for query in queries() for found in mistakes(query)] == []


@pytest.mark.parametrize("expression", ["no_such_metric > 0", 'message_queue_depth{phone="1"} > 0'])
def test_a_metric_or_label_that_does_not_exist_is_found(expression: str) -> None:
    assert mistakes(expression)


def test_every_alert_says_how_bad_it_is_and_where_it_is_explained() -> None:
    anchors = {heading.lower() for heading in re.findall(r"^#+ (.+)$", OPERATIONS, re.MULTILINE)}
    for alert in alerts():
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"]
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (page, anchor) == ("docs/operations.md", alert["alert"].lower())
        assert anchor in anchors


def test_every_stage_is_scraped(environment: Rendered) -> None:
    (monitor,) = environment.of("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    scraped = {
        service["metadata"]["name"]
        for service in environment.of("Service")
        if wanted.items() <= service["metadata"].get("labels", {}).items()
        and {port["name"] for port in service["spec"]["ports"]} >= {one["port"] for one in monitor["spec"]["endpoints"]}
    }
    assert scraped == set(STAGES)


def test_the_dashboards_panels_do_not_lie_on_each_other() -> None:
    seen: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & seen, panel["title"]
        assert place["x"] + place["w"] <= 24
        seen |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
