"""The contracts of `[tool.importlinter]` hold, and each of them finds what it forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from repository import ROOT, SERVICES, modules, packages

_LINT = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run `lint-imports` in a checkout."""
    places = os.pathsep.join(str(root / folder.relative_to(ROOT) / "src") for folder in packages().values())
    return subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": places, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_holds() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_under_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert set(settings["root_packages"]) == set(packages())


ONE_WAY, ADAPTERS = "Imports point one way", "Only the composition imports adapters"
FORBIDDEN = {
    "eai_poller -> eai_ingress": ("import eai_ingress.request", ONE_WAY),
    "eai_ingress -> eai_formatter": ("def f():\n    import eai_formatter", ONE_WAY),
    "eai_formatter -> eai_cli": ("from eai_cli import up", ONE_WAY),
    "eai_transcriber -> eai_sandbox": ("import eai_sandbox", ONE_WAY),
    "eai_common.store -> eai_poller": ("import eai_poller", ONE_WAY),
    "eai_common.http -> eai_sandbox": ("import eai_sandbox", ONE_WAY),
    "eai_sandbox -> eai_cli": ("import eai_cli", ONE_WAY),
    "eai_agent_router -> eai_common.broker.rabbitmq": ("import eai_common.broker.rabbitmq", ADAPTERS),
    "eai_common.stage -> eai_common.broker.rabbitmq_link": ("from ..broker import rabbitmq_link", ADAPTERS),
    "eai_common.settings -> eai_common.broker.testing": ("from ..broker import testing", "Only tests import"),
    "eai_common.telemetry -> eai_common.http": ("from eai_common import http", "Rooms of eai_common import"),
    ".broker -> .stage": ("import eai_common.stage", "No package has a circle"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What lint-imports says of a copy of the packages to which all that is forbidden was added."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in packages().values():
        shutil.copytree(folder / "src", root / folder.relative_to(ROOT) / "src")
    shutil.copy(ROOT / "pyproject.toml", root)
    for rule, (source, _) in FORBIDDEN.items():
        importer = f"eai_common{rule.split()[0]}" if rule.startswith(".") else rule.split()[0]
        place = root / packages()[importer.partition(".")[0]].relative_to(ROOT) / "src" / importer.replace(".", "/")
        with (place / "__init__.py").open("a", encoding="utf-8") as file:
            file.write(f"\n{source}\n")
    return lint_imports(root).stdout


@pytest.mark.parametrize(("forbidden", "contract"), [(rule, contract) for rule, (_, contract) in FORBIDDEN.items()])
def test_a_forbidden_import_is_found(broken: str, forbidden: str, contract: str) -> None:
    report = broken.partition("Broken contracts")[2]
    (section,) = re.findall(rf"^{contract}[^\n]*\n-+\n(.*?)(?=^-+$|\Z)", report, re.MULTILINE | re.DOTALL)
    assert f"- {forbidden}" in section


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_neither_a_test_nor_a_name_in_a_string_reaches_into_another_service(service: str) -> None:
    # import-linter sees neither.
    others = "|".join(SERVICES - {service})
    reach = re.compile(rf"^\s*(?:from|import) (?:{others})\b|import_module\(\W(?:{others})\b", re.MULTILINE)
    inside = [module for module in modules() if module.package == service]
    assert [str(module) for module in inside if reach.search(module.path.read_text(encoding="utf-8"))] == []
