"""Who may talk to whom: what a stage's row in docs/architecture.md says, and nothing more."""

from __future__ import annotations

import pytest
from manifests.network import Pod, Traffic, pods_of
from manifests.rendering import STAGES, Rendered

from eai_cli.services import DEFINITIONS
from eai_common.settings import TelemetrySettings

USES = {one.name: {"redis", *(["rabbitmq"] if one.uses_broker else [])} for one in DEFINITIONS}
SERVES_CLIENTS = {definition.name for definition in DEFINITIONS if definition.serves_clients}
ASKS_OUTSIDE = {"transcriber", "agent-router", "formatter"}
ANYBODY = {"app.kubernetes.io/name": "anything"}
OUTSIDE = Pod(address="93.184.215.14")
SCRAPER, CONTROLLER, STRANGER = (Pod(name, ANYBODY) for name in ("monitoring", "ingress-nginx", "elsewhere"))
INSIDE = ["10.1.2.3", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.7", "127.0.0.1", "fd00::1", "::1"]


@pytest.fixture()
def pods(environment: Rendered) -> dict[str, Pod]:
    return pods_of(environment)


@pytest.fixture()
def traffic(environment: Rendered) -> Traffic:
    return Traffic(environment)


def test_every_pod_is_under_a_policy_in_both_directions(pods: dict[str, Pod], traffic: Traffic) -> None:
    assert [name for name, pod in pods.items() if not traffic.covers(pod, "Ingress")] == []
    assert [name for name, pod in pods.items() if not traffic.covers(pod, "Egress")] == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("part", "port"), [("rabbitmq", 5672), ("redis", 6379), ("redis", 26379)])
def test_a_stage_reaches_the_parts_that_its_code_uses_and_no_other(
    pods: dict[str, Pod], traffic: Traffic, stage: str, part: str, port: int
) -> None:
    assert traffic.is_allowed(pods[stage], pods[part], port) == (part in USES[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reaches_no_other_stage(pods: dict[str, Pod], traffic: Traffic, stage: str) -> None:
    assert [other for other in STAGES if traffic.is_allowed(pods[stage], pods[other], 8080)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_only_a_stage_with_business_outside_gets_there(pods: dict[str, Pod], traffic: Traffic, stage: str) -> None:
    assert traffic.is_allowed(pods[stage], OUTSIDE, 443) == (stage in ASKS_OUTSIDE)
    assert traffic.is_allowed(pods[stage], OUTSIDE, 80) == (stage == "transcriber")
    assert not traffic.is_allowed(pods[stage], OUTSIDE, 25)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("address", INSIDE)
def test_no_stage_reaches_an_address_that_is_not_public(
    pods: dict[str, Pod], traffic: Traffic, stage: str, address: str
) -> None:
    assert not traffic.is_allowed(pods[stage], Pod(address=address), 443)
    assert not traffic.is_allowed(pods[stage], Pod(address=address), 80)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_reached_by_prometheus_and_where_it_serves_clients_by_the_ingress_controller(
    pods: dict[str, Pod], traffic: Traffic, stage: str
) -> None:
    assert traffic.is_allowed(SCRAPER, pods[stage], 8080)
    assert traffic.is_allowed(CONTROLLER, pods[stage], 8080) == (stage in SERVES_CLIENTS)
    assert not traffic.is_allowed(STRANGER, pods[stage], 8080)
    assert not traffic.is_allowed(OUTSIDE, pods[stage], 8080)


def test_redis_and_rabbitmq_let_in_nobody_else(pods: dict[str, Pod], traffic: Traffic) -> None:
    for part, port in (("redis", 6379), ("rabbitmq", 5672), ("rabbitmq", 15672), ("rabbitmq", 25672)):
        assert not traffic.is_allowed(STRANGER, pods[part], port)
        assert not traffic.is_allowed(CONTROLLER, pods[part], port)


def test_redis_servers_and_sentinels_reach_each_other(pods: dict[str, Pod], traffic: Traffic) -> None:
    for port in (6379, 26379):
        assert traffic.is_allowed(pods["redis"], pods["redis"], port)


def test_rabbitmqs_nodes_reach_each_other(pods: dict[str, Pod], traffic: Traffic) -> None:
    for port in (4369, 25672, 35680):
        assert traffic.is_allowed(pods["rabbitmq"], pods["rabbitmq"], port)


def routes(rendered: Rendered) -> dict[str, str]:
    """Path to service, as the Ingress objects say."""
    return {
        path["path"]: path["backend"]["service"]["name"]
        for ingress in rendered.of("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }


def test_messages_go_to_ingress_and_everything_else_to_the_poller(environment: Rendered) -> None:
    found = routes(environment)
    assert {path for path, service in found.items() if service == "ingress"} == {"/api/v1/message/webhook/"}
    assert found["/api"] == "poller"
    assert set(found.values()) == {"ingress", "poller"}


def test_metrics_and_probes_are_not_public(environment: Rendered) -> None:
    hidden = {TelemetrySettings().metrics_path, "/live", "/ready", "/"}
    assert not hidden & set(routes(environment))


def test_every_host_has_a_certificate(environment: Rendered) -> None:
    for ingress in environment.of("Ingress"):
        hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
        secured = {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]}
        assert hosts == secured


def test_every_service_selects_a_pod_and_a_port_of_it(environment: Rendered, pods: dict[str, Pod]) -> None:
    for service in environment.of("Service"):
        selector = service["spec"]["selector"]
        (selected,) = (pod for pod in pods.values() if selector.items() <= pod.labels.items())
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in {*selected.ports, *selected.ports.values()}
