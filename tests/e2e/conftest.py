"""Fixtures of the end-to-end tests: the same scenarios against both ways to run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.deployment import Deployment, FiveProcesses, five_processes, up

_NUMBERS = itertools.count(5521990000000)


@pytest.fixture(scope="session", params=["up", "five processes"])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """`./eai up`, then five processes on RabbitMQ and Redis."""
    if request.param == "up":
        with up(tmp_path_factory.mktemp("up")) as running:
            yield running
    else:
        yield request.getfixturevalue("processes")


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FiveProcesses]:
    """Five processes on private RabbitMQ and Redis servers."""
    with five_processes(tmp_path_factory.mktemp("five")) as running:
        yield running


@pytest.fixture()
def user() -> str:
    """The number of a user who has never written before."""
    return f"+{next(_NUMBERS)}"


@pytest.fixture(scope="session")
def spoken_question() -> Path:
    """A recording, in English, that the sandbox's recogniser hears well; the text beside it says what is said."""
    return Path(__file__).parent / "data" / "spoken-question.wav"
