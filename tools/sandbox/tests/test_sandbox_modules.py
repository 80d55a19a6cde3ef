"""What every module of the sandbox says about itself."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import eai_sandbox

MODULES = sorted(Path(eai_sandbox.__file__).parent.glob("[!_]*.py"))


def public_names(source: str) -> set[str]:
    """The functions, classes and constants that a module makes and does not mark as its own."""
    made: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Assign):
            made.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            made.add(node.target.id)
    return {name for name in made if not name.startswith("_") and name != "log"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_all_names_exactly_what_a_module_makes_for_others(path: Path) -> None:
    module = importlib.import_module(f"eai_sandbox.{path.stem}")
    assert set(module.__all__) == public_names(path.read_text())
