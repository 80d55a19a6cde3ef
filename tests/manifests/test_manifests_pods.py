"""What every pod of ours must have: probes, limits, no privileges, and a pinned image."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from manifests.rendering import STAGES, Rendered, quantity

from eai_common.settings import BrokerSettings, ProcessSettings

PINNED = re.compile(r"^[a-z0-9][a-z0-9._/-]*:(?!latest$)[\w][\w.-]*$")


def seconds(text: str) -> float:
    return ProcessSettings(shutdown_grace=text).shutdown_grace.total_seconds()  # type: ignore[arg-type]


def test_every_stage_is_deployed_on_its_own(overlay: Rendered) -> None:
    assert {deployment["metadata"]["name"] for deployment in overlay.of("Deployment")} == set(STAGES)


def test_every_image_has_a_version_and_none_is_the_latest(environment: Rendered) -> None:
    images = [container["image"] for _, _, container in environment.containers()]
    images += [cluster["spec"]["image"] for cluster in environment.of("RabbitmqCluster")]
    assert [image for image in images if not PINNED.match(image)] == []


def test_every_container_has_probes_that_can_fail_and_requests_and_limits(overlay: Rendered) -> None:
    for name, _, container in overlay.containers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["periodSeconds"] > 0, (name, probe)
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        for resource in ("cpu", "memory"):
            assert 0 < quantity(requests[resource]) <= quantity(limits[resource]), (name, resource)


def test_a_stages_probes_ask_what_the_contract_says(overlay: Rendered) -> None:
    for deployment in overlay.of("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        asked = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
        assert asked == {"startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}
        assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080}


def test_a_start_may_take_as_long_as_a_stage_waits_for_its_broker(overlay: Rendered) -> None:
    longest_s = BrokerSettings().connect_timeout.total_seconds()
    for deployment in overlay.of("Deployment"):
        probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= longest_s + 10


def test_no_container_has_a_privilege_or_a_writable_root(overlay: Rendered) -> None:
    for name, pod, container in overlay.containers():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert not any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name


def test_no_pod_is_given_a_token_of_the_kubernetes_api(overlay: Rendered) -> None:
    for workload in overlay.workloads():
        pod = workload["spec"]["template"]["spec"]
        account = overlay.one("ServiceAccount", pod["serviceAccountName"])
        assert pod["automountServiceAccountToken"] is False
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_time_to_drain_before_it_is_killed(overlay: Rendered, stage: str) -> None:
    pod = overlay.one("Deployment", stage)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    own = {variable["name"]: variable.get("value") for variable in container["env"]}
    grace_s = seconds(own["SHUTDOWN_GRACE"]) if "SHUTDOWN_GRACE" in own else _default_grace().total_seconds()
    waits = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    assert pod["terminationGracePeriodSeconds"] >= float(waits[1]) + grace_s + 5


def test_a_stage_that_answers_clients_stays_until_the_load_balancers_know_that_it_goes(overlay: Rendered) -> None:
    for stage in ("ingress", "poller"):
        (container,) = overlay.one("Deployment", stage)["spec"]["template"]["spec"]["containers"]
        assert float(container["lifecycle"]["preStop"]["exec"]["command"][1]) >= 5


def test_a_rollout_takes_no_replica_away_before_its_successor_is_ready(overlay: Rendered) -> None:
    for deployment in overlay.of("Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_stages_replicas_are_spread_over_nodes_and_zones(overlay: Rendered) -> None:
    for deployment in overlay.of("Deployment"):
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {rule["topologyKey"] for rule in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for rule in spread:
            assert rule["labelSelector"]["matchLabels"].items() <= labels.items()
            assert "app.kubernetes.io/name" in rule["matchLabelKeys"]


def _default_grace() -> timedelta:
    return ProcessSettings().shutdown_grace
