"""Fixtures of the end-to-end tests: the same scenarios against each way to run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from e2e.compose import COMPOSE_FILES, PROJECT, Compose, compose_environment
from e2e.deployment import ROOT, Deployment, FiveProcesses, five_processes, up

_NUMBERS = itertools.count(5521990000000)


@pytest.fixture(scope="session", params=["up", "five processes", pytest.param("compose", marks=pytest.mark.compose)])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """`./eai up`, then five processes on RabbitMQ and Redis, then containers behind nginx."""
    if request.param == "up":
        with up(tmp_path_factory.mktemp("up")) as running:
            yield running
    else:
        yield request.getfixturevalue("processes" if request.param == "five processes" else "compose")


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FiveProcesses]:
    """Five processes on private RabbitMQ and Redis servers."""
    with five_processes(tmp_path_factory.mktemp("five")) as running:
        yield running


@pytest.fixture(scope="session")
def docker_compose_file() -> list[str]:
    """For pytest-docker: what it brings up."""
    return [str(file) for file in COMPOSE_FILES]


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """For pytest-docker: ours, so that a stack at a desk is left alone."""
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """For pytest-docker: build-support/docker/build-images.sh has built the images."""
    return ["up --detach --wait --no-build"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    """For pytest-docker: what is in flight does not matter any more."""
    return ["down --volumes --timeout 2"]


@pytest.fixture(scope="session")
def compose_environ() -> Iterator[dict[str, str]]:
    """The stack's ports, also in the environment, where pytest-docker's commands find them."""
    environ = compose_environment()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environ.items():
            patched.setenv(name, value)
        yield environ


@pytest.fixture(scope="session")
def compose(compose_environ: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Compose]:
    """The stack of deploy/compose, with the sandbox."""
    request.getfixturevalue("docker_services")  # not an argument: the ports have to be set first
    running = Compose(compose_environ)
    with running.client.http:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the containers have said when a test fails, before the next one replaces them."""
    report = yield
    running = getattr(item, "funcargs", {}).get("compose") or getattr(item, "funcargs", {}).get("deployment")
    if report.failed and call.when == "call" and isinstance(running, Compose):
        running.keep_logs(ROOT / ".eai" / "compose-logs" / re.sub(r"[^\w-]+", "_", item.name))
    return report


@pytest.fixture()
def user() -> str:
    """The number of a user who has never written before."""
    return f"+{next(_NUMBERS)}"


@pytest.fixture()
def spoken_question(tmp_path: Path) -> Path:
    """A recording, in English, that the sandbox hears well; the text beside the original says what is said.

    Each test's has a chunk of its own behind the sound, because the transcriber remembers what it heard in which bytes.
    """
    recording = Path(__file__).parent / "data" / "spoken-question.wav"
    mine = tmp_path / recording.name
    mine.write_bytes(recording.read_bytes() + b"junk" + (16).to_bytes(4, "little") + uuid4().bytes)
    return mine
