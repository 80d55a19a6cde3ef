"""docs/extending.md is true: what it says, word for word, gives a provider that answers and a stage that works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from repository import ROOT

from eai_common.testing import eventually

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
REGISTRY = "libs/common/src/eai_common/registry.py"
COPIED = (
    *("BUILD", "conftest.py", "pyproject.toml"),
    *("3rdparty", "build-support", "deploy", "docs", "libs", "services", "tests", "tools"),
)
WAIT_S = 30
# The rules that the two additions must pass; the slower ones hold for the repository itself.
HELD = (
    "libs/common/tests/test_common_registry.py",
    "libs/common/tests/test_common_topology.py",
    "services/tally/tests",
    "tests/test_deploy_compose.py",
    "tests/test_repository_imports.py::test_every_package_is_under_contract",
    "tests/test_repository_layout.py",
    "tools/cli/tests/test_cli_configuration.py",
    "tools/cli/tests/test_cli_manifests.py::test_no_registered_stage_is_missing",
)


def files_of_the_page() -> dict[str, str]:
    """Each file whose path stands before a block of code, with the block."""
    found = re.findall(r"`([\w./-]+)`[^\n`]*:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return {path: content for path, content in found if path != REGISTRY}


def lines_of_the_registry() -> list[str]:
    """The lines that the page adds to the registry."""
    return re.findall(r"```python\n( {4}\w+Entry\([^\n]*\),\n)```", PAGE)


def with_line(registry: str, line: str) -> str:
    """The registry with a line more, behind the last entry of its kind."""
    tuple_of = {"StageEntry": "STAGES", "ProviderEntry": "PROVIDERS"}[line.strip().partition("(")[0]]
    before, opening, after = registry.partition(f"{tuple_of}: tuple")
    entries, closing, rest = after.partition("\n)\n")
    return f"{before}{opening}{entries}\n{line.rstrip()}{closing}{rest}"


@dataclass(frozen=True)
class Copy:
    """A copy of the repository to which the page was applied."""

    root: Path

    @property
    def environ(self) -> dict[str, str]:
        sources = [path for kind in ("libs", "services", "tools") for path in self.root.glob(f"{kind}/*/src")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [self.root / "tests", *sources]))}

    def run(self, *arguments: str) -> str:
        """What the module printed."""
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The repository after the page's steps."""
    copy = Copy(tmp_path_factory.mktemp("extended"))
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy.root / name)
    for path, content in files_of_the_page().items():
        (copy.root / path).parent.mkdir(parents=True, exist_ok=True)
        (copy.root / path).write_text(content, encoding="utf-8")
    registry = copy.root / REGISTRY
    for line in lines_of_the_registry():
        registry.write_text(with_line(registry.read_text(encoding="utf-8"), line), encoding="utf-8")
    copy.run("eai_cli", "manifests")
    (copy.root / "docs" / "configuration.md").write_text(copy.run("eai_cli", "config", "--markdown"), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def url(extended: Copy) -> Iterator[str]:
    """The address of `./eai up` in the copy."""
    environ = extended.environ | {
        "AGENT_PROVIDERS": "echo,google_agent_engine",
        "ECHO_PREFIX": "Você disse:",
        "HEALTH_CHECK_CACHE_TTL": "100ms",
        "SHUTDOWN_GRACE": "1s",
        "SPEECH_PROVIDERS": "openai",
        "OPENAI_TRANSCRIPTION_URL": "http://127.0.0.1:1",
    }
    command = [sys.executable, "-m", "eai_cli", "up", "--port", "0"]
    with subprocess.Popen(command, cwd=extended.root, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("ready ")), "")
            assert ready, f"./eai up ended with {process.wait()}"
            yield ready.split()[1]
        finally:
            process.terminate()


@pytest.fixture()
async def gateway(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=2 * WAIT_S, trust_env=False) as client:
        yield client


async def answer_of(gateway: httpx.AsyncClient, text: str) -> dict[str, Any]:
    """The echo's answer."""
    body = {"user_number": "5521999990000", "message": text, "provider": "echo"}
    accepted = (await gateway.post("/api/v1/message/webhook/user", json=body)).raise_for_status().json()
    query = {"message_id": accepted["message_id"], "wait": WAIT_S}
    answer: dict[str, Any] = (await gateway.get("/api/v1/message/response", params=query)).raise_for_status().json()
    return answer


def test_the_page_names_every_file_and_both_lines() -> None:
    assert len(lines_of_the_registry()) == 2
    assert {path for path in files_of_the_page() if not path.startswith("services/tally/")} == {
        "services/agent-router/src/eai_agent_router/providers/echo.py"
    }


async def test_the_provider_answers(gateway: httpx.AsyncClient) -> None:
    answer = await answer_of(gateway, "Bom dia")
    assert (answer["status"], answer["content"]) == ("completed", "Você disse: Bom dia")


async def test_the_stage_works(gateway: httpx.AsyncClient) -> None:
    async def completed() -> int:
        return int((await gateway.get("/api/v1/tally")).json()["completed"])

    before = await completed()
    await answer_of(gateway, "Boa tarde")

    async def is_counted() -> bool:
        return await completed() > before

    await eventually(is_counted, within_s=WAIT_S)


async def test_both_appear_in_the_health(gateway: httpx.AsyncClient) -> None:
    async def is_healthy() -> bool:
        health = (await gateway.get("/health")).json()
        return (health["gateway"]["tally"], health["services"]["echo"]) == (
            {"status": "healthy", "instances": 1},
            {"status": "healthy"},
        )

    await eventually(is_healthy, within_s=WAIT_S)
    queues = (await gateway.get("/health?detail=true")).json()["services"]["rabbitmq"]["queue_depths"]
    assert queues.keys() >= {"eai.tally", "eai.tally.dlq"}


def test_the_provider_appears_in_the_settings_reference(extended: Copy) -> None:
    reference = (extended.root / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in reference.splitlines() if line.startswith("| `")}
    assert rows.keys() >= {"ECHO_PREFIX", "ECHO_RATE_LIMIT"}
    named = ("AGENT_PROVIDER", "AGENT_PROVIDERS", "AGENT_FALLBACK", "HEALTH_CHECK_DEPENDENCIES")
    assert [name for name in named if "openai, echo" not in rows[name]] == []


def test_the_rules_of_the_repository_hold_with_both(extended: Copy) -> None:
    extended.run("pytest", "-q", "--no-header", "-p", "no:cacheprovider", *HELD)
