"""Fixtures of the manifests' tests: each test sees every overlay."""

from __future__ import annotations

import pytest
from manifests.rendering import OVERLAYS, Rendered, rendered


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Rendered:
    """One overlay of deploy/k8s, rendered."""
    return rendered(request.param)


@pytest.fixture(params=[name for name in OVERLAYS if name != "base"])
def environment(request: pytest.FixtureRequest) -> Rendered:
    """An overlay that is applied to a cluster; the base is only built upon."""
    return rendered(request.param)


@pytest.fixture(params=[name for name in OVERLAYS if not name.endswith("keda")])
def plain(request: pytest.FixtureRequest) -> Rendered:
    """An overlay that scales by Kubernetes' own autoscalers."""
    return rendered(request.param)


@pytest.fixture(params=[name for name in OVERLAYS if name.endswith("keda")])
def keda(request: pytest.FixtureRequest) -> Rendered:
    """An overlay that scales by KEDA."""
    return rendered(request.param)
