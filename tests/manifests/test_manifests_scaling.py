"""Whether each stage scales by itself, within bounds, by what its code exports; and may lose a pod at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from manifests.promql import TARGET_LABELS, exported, selectors
from manifests.rendering import DEPLOY, STAGES, Manifest, Rendered

from eai_cli.services import DEFINITIONS
from eai_common.registry import STAGES as REGISTERED
from eai_common.topology import Topology

HTTP = {definition.name for definition in DEFINITIONS if definition.serves_clients}
QUEUES = {
    service.name: {f"eai.{stage.name}" for stage in REGISTERED if stage.consumes and stage.definition == definition}
    for service, definition in zip(DEFINITIONS, dict.fromkeys(stage.definition for stage in REGISTERED), strict=True)
}
RULES = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]
RULE_OF = {"Pods": "custom", "External": "external"}
UP, DOWN = {"Percent": 100, "Pods": 4}, {"Pods": 1}


def scalers(rendered: Rendered) -> dict[str, Manifest]:
    kind = "ScaledObject" if rendered.overlay.endswith("keda") else "HorizontalPodAutoscaler"
    return {scaler["spec"]["scaleTargetRef"]["name"]: scaler for scaler in rendered.of(kind)}


def test_every_queue_has_a_stage_that_scales_by_it() -> None:
    assert set().union(*QUEUES.values()) == {queue.name for queue in Topology().stage_queues}
    assert QUEUES["formatter"] == {"eai.formatter", "eai.callbacks"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_autoscaler_within_bounds(environment: Rendered, stage: str) -> None:
    spec = scalers(environment)[stage]["spec"]
    low = spec.get("minReplicas", spec.get("minReplicaCount"))
    high = spec.get("maxReplicas", spec.get("maxReplicaCount"))
    assert (1 if environment.overlay.startswith("staging") else 2) <= low < high <= 50


def test_nothing_else_sets_the_number_of_replicas(overlay: Rendered) -> None:
    assert [deployment for deployment in overlay.of("Deployment") if "replicas" in deployment["spec"]] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_grows_fast_and_shrinks_slowly(environment: Rendered, stage: str) -> None:
    spec = scalers(environment)[stage]["spec"]
    if environment.overlay.endswith("keda"):
        spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
    up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
    assert (up["stabilizationWindowSeconds"], down["stabilizationWindowSeconds"]) == (0, 300)
    assert {policy["type"]: policy["value"] for policy in up["policies"]} == UP
    assert {policy["type"]: policy["value"] for policy in down["policies"]} == DOWN


@pytest.mark.parametrize("stage", STAGES)
def test_an_autoscaler_looks_at_cpu_and_at_what_its_stage_is_for(plain: Rendered, stage: str) -> None:
    metrics = plain.one("HorizontalPodAutoscaler", stage)["spec"]["metrics"]
    assert [metric["resource"]["name"] for metric in metrics if metric["type"] == "Resource"] == ["cpu"]
    if stage in HTTP:
        assert "http_requests_per_second" in {
            metric["pods"]["metric"]["name"] for metric in metrics if "pods" in metric
        }
        return
    external = [metric["external"] for metric in metrics if metric["type"] == "External"]
    assert {one["metric"]["selector"]["matchLabels"]["queue"] for one in external} == QUEUES[stage]
    assert {one["target"]["type"] for one in external} == {"AverageValue"}  # the depth for each replica


def test_every_metric_that_an_autoscaler_names_is_made_by_a_rule_of_prometheus_adapter(plain: Rendered) -> None:
    made = {kind: {rule["name"]["as"] for rule in RULES[rules]} for kind, rules in RULE_OF.items()}
    for autoscaler in plain.of("HorizontalPodAutoscaler"):
        for metric in autoscaler["spec"]["metrics"]:
            if metric["type"] in made:
                assert metric[metric["type"].lower()]["metric"]["name"] in made[metric["type"]]


@pytest.mark.parametrize("rule", [*RULES["custom"], *RULES["external"]], ids=lambda rule: rule["name"]["as"])
def test_a_rule_of_prometheus_adapter_asks_for_what_the_services_export(rule: Manifest) -> None:
    (series,) = selectors(rule["seriesQuery"])
    query = rule["metricsQuery"].replace("<<.Series>>", series.metric).replace("<<.GroupBy>>", "pod")
    for selector in (series, *selectors(query.replace("<<.LabelMatchers>>", 'pod="a"'))):
        assert selector.labels <= exported()[selector.metric] | TARGET_LABELS


def triggers(rendered: Rendered, stage: str) -> Iterator[Manifest]:
    return iter(rendered.one("ScaledObject", stage)["spec"]["triggers"])


@pytest.mark.parametrize("stage", STAGES)
def test_keda_looks_at_cpu_and_at_what_its_stage_is_for(keda: Rendered, stage: str) -> None:
    by_type: dict[str, list[Manifest]] = {}
    for trigger in triggers(keda, stage):
        by_type.setdefault(trigger["type"], []).append(trigger)
    assert len(by_type["cpu"]) == 1
    assert {one["metadata"]["queueName"] for one in by_type.get("rabbitmq", [])} == QUEUES.get(stage, set())
    authentications = {one["metadata"]["name"] for one in keda.of("TriggerAuthentication")}
    assert {one["authenticationRef"]["name"] for one in by_type.get("rabbitmq", [])} <= authentications
    namespace = keda.one("Deployment", stage)["metadata"]["namespace"]
    for one in by_type.get("prometheus", []):
        for selector in selectors(one["metadata"]["query"]):
            assert selector.labels <= exported()[selector.metric] | TARGET_LABELS
        assert f'namespace="{namespace}",service="{stage}"' in one["metadata"]["query"]


def test_keda_and_plain_autoscalers_never_meet(environment: Rendered) -> None:
    kinds = {manifest["kind"] for manifest in environment.manifests}
    assert len(kinds & {"ScaledObject", "HorizontalPodAutoscaler"}) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_may_lose_one_pod_at_a_time(overlay: Rendered, stage: str) -> None:
    spec = overlay.one("PodDisruptionBudget", stage)["spec"]
    labels = overlay.one("Deployment", stage)["spec"]["template"]["metadata"]["labels"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"].items() <= labels.items()
