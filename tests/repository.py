"""The repository as its rules see it: packages, and the modules in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["ROOT", "SERVICES", "Module", "modules", "packages"]

ROOT = Path(__file__).resolve().parents[1]
SERVICES = frozenset(path.parent.name for path in ROOT.glob("services/*/src/*/__init__.py"))


@dataclass(frozen=True)
class Module:
    """A Python file of a package, or of the package's tests."""

    package: str
    path: Path
    is_test: bool

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self))

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def packages() -> dict[str, Path]:
    """The folder of each package, by the name it is imported by."""
    found = [path for kind in ("libs", "services", "tools") for path in ROOT.glob(f"{kind}/*/src/*/__init__.py")]
    return {path.parent.name: path.parents[2] for path in sorted(found)}


def modules() -> Iterator[Module]:
    """Every module and test of every package."""
    for package, folder in packages().items():
        for place in ("src", "tests"):
            yield from (Module(package, path, place == "tests") for path in sorted((folder / place).rglob("*.py")))
