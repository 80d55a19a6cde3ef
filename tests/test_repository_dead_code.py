"""Nothing is dead that `[tool.vulture]` does not explain, and it explains nothing that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from repository import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["vulture"]


def find_dead(folder: Path, *arguments: str) -> list[str]:
    """The lines that vulture prints there."""
    command = [sys.executable, "-m", "vulture", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout.splitlines()


def test_nothing_is_dead_without_a_reason() -> None:
    assert find_dead(ROOT) == []


def test_each_name_that_is_explained_is_there() -> None:
    found = re.findall(r"unused \w+ '(\w+)'", "\n".join(find_dead(ROOT, "--ignore-names", "")))
    assert sorted(set(SETTINGS["ignore_names"]) - set(found)) == []


def test_no_name_is_explained_twice() -> None:
    assert len(SETTINGS["ignore_names"]) == len(set(SETTINGS["ignore_names"]))


def test_dead_code_is_found(tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text("def used():\n    return 1\ndef unused():\n    return used()\n", encoding="utf-8")
    assert [line.partition(" (")[0] for line in find_dead(tmp_path, ".")] == ["dead.py:3: unused function 'unused'"]
