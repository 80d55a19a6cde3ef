"""The Kubernetes manifests as kustomize renders them, and what tests ask of them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from repository import ROOT

from eai_cli.services import DEFINITIONS

__all__ = ["DEPLOY", "OVERLAYS", "STAGES", "Manifest", "Rendered", "quantity", "rendered"]

DEPLOY = ROOT / "deploy"
OVERLAYS = tuple(sorted(path.parent.name for path in (DEPLOY / "k8s").glob("*/kustomization.yaml")))
STAGES = tuple(definition.name for definition in DEFINITIONS)

Manifest = dict[str, Any]
_SUFFIXES = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Rendered:
    """All that one overlay applies."""

    overlay: str
    manifests: tuple[Manifest, ...]

    def of(self, kind: str) -> Iterator[Manifest]:
        return (manifest for manifest in self.manifests if manifest["kind"] == kind)

    def one(self, kind: str, name: str) -> Manifest:
        """The manifest of this kind and name. KeyError without one."""
        found = [manifest for manifest in self.of(kind) if manifest["metadata"]["name"] == name]
        if len(found) != 1:
            raise KeyError(f"{self.overlay}: {len(found)} of {kind}/{name}")
        return found[0]

    def workloads(self) -> Iterator[Manifest]:
        """Everything that we write a pod template for; RabbitMQ's is its operator's."""
        yield from self.of("Deployment")
        yield from self.of("StatefulSet")
        yield from self.of("Job")

    def containers(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """Each workload's name, pod and container, init containers too."""
        for workload in self.workloads():
            pod = workload["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield workload["metadata"]["name"], pod, container


@functools.cache
def rendered(overlay: str) -> Rendered:
    """What `kubectl kustomize` makes of a folder of deploy/k8s. Without kubectl it skips, and in CI it fails."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        words = "kubectl is not on this machine, so the manifests were not rendered: install kubectl 1.27 or newer"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    done = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / "k8s" / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # kustomize warns there of what it will not take any more
    return Rendered(overlay, tuple(yaml.safe_load_all(done.stdout)))


def quantity(written: str | int) -> float:
    """A Kubernetes quantity as a number: cores or bytes."""
    text = str(written)
    suffix = next((suffix for suffix in _SUFFIXES if text.endswith(suffix)), "")
    return float(text.removesuffix(suffix)) * _SUFFIXES.get(suffix, 1)
