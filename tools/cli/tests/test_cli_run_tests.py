"""`./eai test`: which arguments run in several processes."""

from __future__ import annotations

import pytest

from eai_cli.run_tests import xdist_options

THIS, OTHER = "tools/cli/tests/test_cli_run_tests.py", "tools/cli/src/eai_cli/run_tests.py"
MANY = [[], ["tools"], ["-q", "tools/cli", "tools"], ["--durations=5"], ["-m", "slow"], [THIS, OTHER], ["--color=no"]]
FEW = [[THIS], [f"{THIS}::test_x"], ["tools", "-k", "retry"], ["tools", "-x"], ["-n", "3"], ["-n3"], ["--pdb"]]


@pytest.mark.parametrize("arguments", MANY, ids=" ".join)
def test_many_tests_run_side_by_side(arguments: list[str]) -> None:
    assert xdist_options(arguments, cpus=2)[:2] == ["-n", "3"]


@pytest.mark.parametrize("arguments", FEW, ids=" ".join)
def test_few_tests_run_in_one_process(arguments: list[str]) -> None:
    assert xdist_options(arguments, cpus=2) == []


def test_one_cpu_runs_one_process() -> None:
    assert xdist_options([], cpus=1) == []
