"""Imports go one way: a service stands on eai_common alone and knows no other; only the command line sees all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import SERVICES, Module, imports, module_at, modules, packages

OURS = SERVICES | {"eai_common", "eai_sandbox", "eai_cli"}
MAY_IMPORT = {
    "eai_common": frozenset({"eai_common"}),
    "eai_sandbox": frozenset({"eai_sandbox", "eai_common"}),
    "eai_cli": OURS,
    **{service: frozenset({service, "eai_common"}) for service in SERVICES},
}
# A service is tested against the stand-ins of what it talks to.
TESTS_MAY_IMPORT = MAY_IMPORT | {service: MAY_IMPORT[service] | {"eai_sandbox"} for service in SERVICES}

PORT = "eai_common.broker"
ADAPTERS = ("rabbitmq", "memory")
WIRING = ("eai_common.service", "eai_cli")


def violations(module: Module) -> Iterator[str]:
    """What a module imports and must not, as lines for a person."""
    allowed = (TESTS_MAY_IMPORT if module.is_test else MAY_IMPORT)[module.package]
    for line, name in imports(module):
        top = name.partition(".")[0]
        if top in OURS and top not in allowed:
            yield f"{module}:{line}: {module.package} imports {name}"
        if is_adapter(name) and not may_choose_adapters(module):
            yield f"{module}:{line}: imports the adapter {name}; the port is {PORT}, wiring chooses what is behind it"
        if is_for_tests(name) and not module.is_for_tests:
            yield f"{module}:{line}: imports {name}, which is for tests"


def is_adapter(name: str) -> bool:
    inside = name.removeprefix(f"{PORT}.").partition(".")[0]
    return name.startswith(f"{PORT}.") and (inside in ADAPTERS or inside.partition("_")[0] in ADAPTERS)


def may_choose_adapters(module: Module) -> bool:
    wires = any(module.name == name or module.name.startswith(f"{name}.") for name in WIRING)
    return wires or module.is_for_tests or module.name.startswith(f"{PORT}.")


def is_for_tests(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in OURS and "testing" in parts[1:]


def test_every_package_is_seen() -> None:
    assert set(packages()) == OURS
    assert {module.package for module in modules() if not module.is_test} == OURS


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    assert [line for module in modules() if module.package == package for line in violations(module)] == []


FORBIDDEN = {
    "another service": ("eai_poller", "src/eai_poller/answer.py", "from eai_ingress.request import Request"),
    "another service in a function": (
        "eai_ingress",
        "src/eai_ingress/routes.py",
        "def handle() -> None:\n    import eai_formatter.texts",
    ),
    "another service by its name": (
        "eai_ingress",
        "src/eai_ingress/routes.py",
        "import importlib\nimportlib.import_module('eai_poller')",
    ),
    "another service in a test": ("eai_poller", "tests/test_poller_x.py", "import eai_ingress"),
    "the command line": ("eai_formatter", "src/eai_formatter/texts.py", "from eai_cli import up"),
    "the sandbox": ("eai_transcriber", "src/eai_transcriber/wiring.py", "import eai_sandbox"),
    "a service from below": ("eai_common", "src/eai_common/ids.py", "import eai_poller"),
    "the sandbox from below": ("eai_common", "src/eai_common/ids.py", "import eai_sandbox"),
    "the command line from the sandbox": ("eai_sandbox", "src/eai_sandbox/brain.py", "import eai_cli"),
    "the RabbitMQ adapter": (
        "eai_ingress",
        "src/eai_ingress/service.py",
        "from eai_common.broker.rabbitmq import open_rabbitmq",
    ),
    "the memory adapter": ("eai_ingress", "src/eai_ingress/service.py", "from eai_common.broker import memory"),
    "a part of an adapter": ("eai_common", "src/eai_common/stage/work.py", "import eai_common.broker.rabbitmq_link"),
    "an adapter by a relative import": (
        "eai_common",
        "src/eai_common/stage/work.py",
        "from ..broker.memory import MemoryBroker",
    ),
    "what is for tests": ("eai_common", "src/eai_common/ids.py", "from eai_common.broker import testing"),
}
ALLOWED = {
    "eai_common and itself": (
        "eai_poller",
        "src/eai_poller/service.py",
        "from eai_common.broker import Broker\nfrom .answer import Answer\nimport eai_poller.routes",
    ),
    "the sandbox in a test": ("eai_transcriber", "tests/test_transcriber_x.py", "import eai_sandbox"),
    "adapters in wiring": ("eai_common", "src/eai_common/service.py", "import eai_common.broker.rabbitmq"),
    "adapters in tests": ("eai_poller", "tests/test_poller_x.py", "from eai_common.broker.memory import MemoryBroker"),
    "everything in the command line": ("eai_cli", "src/eai_cli/up.py", "import eai_poller, eai_common.broker.memory"),
    "what is for tests, in tests": ("eai_poller", "tests/test_poller_x.py", "import eai_common.broker.testing"),
}


def example(tmp_path: Path, package: str, file: str, source: str) -> Module:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    root = tmp_path / file.partition("/")[0]
    return module_at(path, package, root, is_test=file.startswith("tests/"))


@pytest.mark.parametrize(("package", "file", "source"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_forbidden_is_found(tmp_path: Path, package: str, file: str, source: str) -> None:
    assert len(list(violations(example(tmp_path, package, file, source)))) == 1


@pytest.mark.parametrize(("package", "file", "source"), ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_is_not_complained_of(tmp_path: Path, package: str, file: str, source: str) -> None:
    assert list(violations(example(tmp_path, package, file, source))) == []
