"""The services do what their API descriptions say: some hundred generated requests; the long run is in acceptance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.described_api import DescribedApi, run_against
from e2e.deployment import FiveProcesses, five_processes


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FiveProcesses]:
    """One for this file alone: its callbacks go to hosts that do not exist, and are tried again for hours."""
    with five_processes(tmp_path_factory.mktemp("described"), LOG_LEVEL="error") as running:
        yield running


@pytest.mark.parametrize("service", ["ingress", "poller"])
def test_a_service_keeps_to_its_description(gateway: FiveProcesses, service: str, tmp_path: Path) -> None:
    outcome = run_against(DescribedApi(gateway.url(service), {}), tmp_path, examples=20, seed=20_260_101)
    assert outcome.is_passed, outcome.report
    assert outcome.requests > 40
