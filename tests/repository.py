"""The repository as its rules see it: packages, the modules in them, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["ROOT", "SERVICES", "Module", "imports", "module_at", "modules", "packages"]

ROOT = Path(__file__).resolve().parents[1]
SERVICES = frozenset({"eai_ingress", "eai_transcriber", "eai_agent_router", "eai_formatter", "eai_poller"})
_IMPORTERS = frozenset({"import_module", "__import__", "find_spec"})


@dataclass(frozen=True)
class Module:
    """A Python file of a package: `name` is what it is imported by, or for a test where it lies below `tests`."""

    package: str
    name: str
    path: Path
    is_test: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @property
    def is_for_tests(self) -> bool:
        """Tests, and the contract suites and doubles that packages keep for them."""
        return self.is_test or self.name.rpartition(".")[2] == "testing"

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else str(self.path)


def packages() -> dict[str, Path]:
    """The folder of each package, by the name it is imported by."""
    found = [path for kind in ("libs", "services", "tools") for path in ROOT.glob(f"{kind}/*/src/*/__init__.py")]
    return {path.parent.name: path.parents[2] for path in sorted(found)}


def modules() -> Iterator[Module]:
    """Every module and test of every package."""
    for package, folder in packages().items():
        for path in sorted((folder / "src" / package).rglob("*.py")):
            yield module_at(path, package, folder / "src")
        for path in sorted((folder / "tests").rglob("*.py")):
            yield module_at(path, package, folder / "tests", is_test=True)


def module_at(path: Path, package: str, source_root: Path, *, is_test: bool = False) -> Module:
    """The module that a file is, seen from its source root."""
    parts = path.relative_to(source_root).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return Module(package, name, path, is_test)


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a module imports, wherever it does: also in functions, and by a literal name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _imported_by_name(node)):
            yield node.lineno, name


def _origin(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    package = parts if module.path.name == "__init__.py" else parts[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _imported_by_name(call: ast.Call) -> str | None:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    first = call.args[0] if call.args else None
    if called in _IMPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None
