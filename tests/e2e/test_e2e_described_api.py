"""The services do what their API descriptions say: some hundred generated requests; the long run is in acceptance."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.described_api import DescribedApi, run_against
from e2e.deployment import FiveProcesses


@pytest.mark.parametrize("service", ["ingress", "poller"])
def test_a_service_keeps_to_its_description(processes: FiveProcesses, service: str, tmp_path: Path) -> None:
    outcome = run_against(DescribedApi(processes.url(service), {}), tmp_path, examples=20, seed=20_260_101)
    assert outcome.is_passed, outcome.report
    assert outcome.requests > 40
