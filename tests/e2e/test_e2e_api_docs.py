"""docs/api.md is true: its programs get an answer from a running gateway."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.deployment import ROOT, Deployment

DOC = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture()
def environ(deployment: Deployment) -> dict[str, str]:
    if deployment.client.ingress_url != deployment.client.poller_url:
        pytest.skip("the programs know one address, as clients do; here is nothing in front of the services")
    return {**os.environ, "GATEWAY": deployment.client.ingress_url, "TOKEN": "any", "NO_PROXY": "*"}


def program(language: str) -> str:
    match = re.search(rf"^```{language}\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def installed(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        assert os.environ.get("CI") != "true", f"{name} is missing, which CI has"
        pytest.skip(f"{name} is not installed, so docs/api.md's program for it is not run")
    return path


def said_by(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_curl_program_gets_an_answer(environ: dict[str, str]) -> None:
    said = said_by([installed("bash"), "-euc", program("sh")], environ)
    assert '"status":"completed"' in said
    assert "IPTU" in said


def test_the_python_program_gets_an_answer(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(program("python"))
    assert "IPTU" in said_by([sys.executable, str(tmp_path / "ask.py")], environ)


def test_the_javascript_program_gets_an_answer(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ask.mjs").write_text(program("javascript"))
    assert "IPTU" in said_by([installed("node"), str(tmp_path / "ask.mjs")], environ)
