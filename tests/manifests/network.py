"""Network policies as a cluster would decide them: who may open a connection to whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Literal

from manifests.rendering import Manifest, Rendered

__all__ = ["Pod", "Traffic", "pods_of"]


@dataclass(frozen=True)
class Pod:
    """One end of a connection. `ports` are its named ports; one without labels is an address outside of the cluster."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""


def pods_of(rendered: Rendered) -> dict[str, Pod]:
    """The pods that an overlay makes, by workload, and RabbitMQ's as its operator labels them."""
    found = {}
    for workload in rendered.workloads():
        template = workload["spec"]["template"]
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        found[workload["metadata"]["name"]] = Pod(_namespace(workload), template["metadata"]["labels"], ports)
    for cluster in rendered.of("RabbitmqCluster"):
        name = cluster["metadata"]["name"]
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "rabbitmq"}
        found["rabbitmq"] = Pod(_namespace(cluster), {**labels, "app.kubernetes.io/part-of": "rabbitmq"})
    return found


class Traffic:
    """Decides by all policies of an overlay, both ways: the sender must be let out and the receiver must let in."""

    def __init__(self, rendered: Rendered) -> None:
        self._policies = list(rendered.of("NetworkPolicy"))

    def is_allowed(self, sender: Pod, receiver: Pod, port: int) -> bool:
        return self._passes("Egress", sender, receiver, receiver, port) and self._passes(
            "Ingress", receiver, sender, receiver, port
        )

    def covers(self, pod: Pod, direction: Literal["Ingress", "Egress"]) -> bool:
        """Whether any policy at all limits the pod in this direction."""
        return bool(list(self._about(pod, direction)))

    def _passes(self, direction: Literal["Ingress", "Egress"], own: Pod, peer: Pod, receiver: Pod, port: int) -> bool:
        policies = list(self._about(own, direction))
        rules = [rule for policy in policies for rule in policy["spec"].get(direction.lower(), [])]
        return not policies or any(_rule_matches(rule, direction, own, peer, receiver, port) for rule in rules)

    def _about(self, pod: Pod, direction: str) -> Iterator[Manifest]:
        for policy in self._policies:
            spec = policy["spec"]
            in_its_namespace = _namespace(policy) == pod.namespace and pod.labels
            if in_its_namespace and direction in spec["policyTypes"] and _selects(spec["podSelector"], pod.labels):
                yield policy


def _rule_matches(rule: Manifest, direction: str, own: Pod, peer: Pod, receiver: Pod, port: int) -> bool:
    peers = rule.get("to" if direction == "Egress" else "from")
    ports = rule.get("ports")
    return (peers is None or any(_peer_matches(one, own, peer) for one in peers)) and (
        ports is None or any(_port_matches(one, receiver, port) for one in ports)
    )


def _peer_matches(rule: Manifest, own: Pod, peer: Pod) -> bool:
    if block := rule.get("ipBlock"):
        address = ip_address(peer.address) if peer.address else None
        return (
            address is not None
            and address in ip_network(block["cidr"])
            and not any(address in ip_network(hole) for hole in block.get("except", []))
        )
    if not peer.labels:
        return False
    if (namespaces := rule.get("namespaceSelector")) is None:
        in_namespace = peer.namespace == own.namespace
    else:
        in_namespace = _selects(namespaces, {"kubernetes.io/metadata.name": peer.namespace})
    return in_namespace and _selects(rule.get("podSelector", {}), peer.labels)


def _port_matches(rule: Manifest, receiver: Pod, port: int) -> bool:
    wanted = rule["port"]
    number = receiver.ports.get(wanted, -1) if isinstance(wanted, str) else int(wanted)
    return rule.get("protocol", "TCP") == "TCP" and number <= port <= int(rule.get("endPort", number))


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _expression_holds(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _expression_holds(expression: Manifest, labels: dict[str, str]) -> bool:
    if expression["operator"] != "In":
        raise NotImplementedError(expression["operator"])
    return labels.get(expression["key"]) in expression["values"]


def _namespace(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace", ""))
