"""Tests wait for a condition, or in virtual time; one that sleeps says why. Where chance comes from, ruff holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT

MOST_SLEEPS = 5
TOOLS_OF_TESTS = ROOT / "libs/common/src/eai_common/testing.py"  # what the others use instead


def sleeps() -> Iterator[tuple[Path, str]]:
    """The lines with a sleep in a test, in what is there for tests, or in an acceptance run."""
    files = [path for kind in ("libs", "services", "tools") for path in ROOT.glob(f"{kind}/*/tests/**/*.py")]
    files += [path for kind in ("libs", "services", "tools") for path in ROOT.glob(f"{kind}/*/src/**/testing.py")]
    files += [*ROOT.glob("tests/**/*.py"), ROOT / "conftest.py"]
    for file in sorted(set(files) - {TOOLS_OF_TESTS, Path(__file__)}):
        lines = file.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
                yield file.relative_to(ROOT), lines[node.lineno - 1]


def test_few_tests_sleep_and_each_says_why() -> None:
    found = list(sleeps())
    assert [where for where in found if "  # " not in where[1]] == []
    assert len(found) <= MOST_SLEEPS, found
