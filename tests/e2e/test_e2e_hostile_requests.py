"""Hostile requests break nothing: some hundreds of them; the long run is in acceptance."""

from __future__ import annotations

import asyncio

import pytest
from acceptance.hostile_requests import attack
from e2e.deployment import FiveProcesses


@pytest.mark.parametrize("service", ["ingress", "poller"])
def test_hostile_requests_are_refused_and_nothing_else(processes: FiveProcesses, service: str) -> None:
    host, _, port = processes.url(service).removeprefix("http://").partition(":")
    report = asyncio.run(attack(host, int(port), requests=600, seed=20_260_101))
    assert (report.sent, report.bad) == (600, [])
    assert processes.is_ready(service)
