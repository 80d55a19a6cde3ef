"""Whether Kubernetes, and the operators whose resources we use, would take the manifests."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
from typing import Any

import kubernetes_validate
import pytest
from manifests.rendering import OVERLAYS, Manifest, rendered

OLDEST = "1.27"
NEWEST = kubernetes_validate.latest_version()
# Models made from the operators' published definitions. RabbitMQ's operator publishes none in a package.
PUBLISHED = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
UNPUBLISHED = {("rabbitmq.com/v1beta1", "RabbitmqCluster")}


def is_custom(manifest: Manifest) -> bool:
    group = manifest["apiVersion"].partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


@functools.cache
def distinct() -> tuple[Manifest, ...]:
    """Every manifest of every overlay once; those that differ in nothing but their namespace count as one."""
    found = {}
    for manifest in itertools.chain.from_iterable(rendered(overlay).manifests for overlay in OVERLAYS):
        metadata = {name: value for name, value in manifest["metadata"].items() if name != "namespace"}
        found[json.dumps({**manifest, "metadata": metadata}, sort_keys=True)] = manifest
    return tuple(found.values())


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_manifest_without_an_unknown_field(version: str) -> None:
    for manifest in distinct():
        if not is_custom(manifest):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_an_operator_takes_every_resource_of_its_own_without_an_unknown_field() -> None:
    custom = [manifest for manifest in distinct() if is_custom(manifest)]
    assert {manifest["apiVersion"] for manifest in custom} == {*PUBLISHED, *(version for version, _ in UNPUBLISHED)}
    for manifest in custom:
        if (manifest["apiVersion"], manifest["kind"]) not in UNPUBLISHED:
            assert read_by_its_model(manifest) == manifest


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_misspelt_field_is_found(version: str) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
        kubernetes_validate.validate(service, version, strict=True)


def test_a_misspelt_field_of_a_custom_resource_is_found() -> None:
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "a"},
        "spec": {"selector": {}, "endpoints": [{"port": "http", "intervall": "15s"}]},
    }
    assert read_by_its_model(monitor) != monitor


def read_by_its_model(manifest: Manifest) -> Any:
    """The manifest as its operator's model understands it: a field that the model does not know is gone."""
    # By name: the modules are some megabytes, and mypy would read them all.
    model = getattr(importlib.import_module(PUBLISHED[manifest["apiVersion"]]), manifest["kind"])
    return model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
