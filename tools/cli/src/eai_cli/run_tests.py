"""`./eai test`: sees that RabbitMQ and Redis are installed, then runs pytest, whose fixtures start private ones.

With `--compose` it sees that there is a Docker engine, builds the images, and runs the tests that need containers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["run_tests"]

_ROOT = Path(__file__).resolve().parents[4]
# Program to look for, and Debian's package that brings it. Debian keeps servers in sbin, which not every PATH has.
_SERVERS = {"rabbitmq-server": "rabbitmq-server", "redis-server": "redis-server"}
# What the programs in the docs are run in. A laptop without them skips those tests; CI does not.
_LANGUAGES = {"node": "nodejs", "go": "golang-go"}
_NOT_INSTALLED = 3
_DOCKER = _ROOT / "build-support" / "docker"


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest from the repository's root with these arguments; gives its exit code, 3 without the servers."""
    if "--compose" in arguments:
        return _run_in_containers([argument for argument in arguments if argument != "--compose"])
    if missing := _missing():
        code = _install(missing)
        if code != 0:
            return code
    return _pytest(arguments or _side_by_side())


def _pytest(arguments: Sequence[str]) -> int:
    # The same order of sets everywhere: some tests have sets in their names, and xdist wants one list from all.
    environ = {"PYTHONHASHSEED": str(secrets.randbelow(2**32)), **os.environ}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=_ROOT, env=environ)


def _side_by_side() -> list[str]:
    """Everything, in a process for each CPU with servers of its own; a file stays in one, the slow ones first."""
    processes = min(os.cpu_count() or 1, 4)
    return ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"] if processes > 1 else []


def _run_in_containers(arguments: Sequence[str]) -> int:
    with _docker_engine() as is_there:
        if not is_there:
            return _NOT_INSTALLED
        code = subprocess.call([_DOCKER / "build-images.sh"])
        return code or subprocess.call(
            [sys.executable, "-m", "pytest", "--compose", "tests/e2e", *arguments], cwd=_ROOT
        )


@contextmanager
def _docker_engine() -> Iterator[bool]:
    """Whether there is one, for as long as the context: the machine's, else one that is stopped at the end."""
    if _runs_docker():
        yield subprocess.call([_DOCKER / "engine-up.sh"]) == 0  # for the images
        return
    try:
        yield subprocess.call([_DOCKER / "engine-up.sh"]) == 0
    finally:
        subprocess.call([_DOCKER / "engine-down.sh"])


def _runs_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _missing() -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    needed = {**_SERVERS, **_LANGUAGES} if os.environ.get("CI") == "true" else _SERVERS
    return [package for program, package in needed.items() if shutil.which(program, path=path) is None]


def _install(packages: list[str]) -> int:
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        sys.stderr.write(f"eai test: the tests need {names}; install what your system calls them, then try again\n")
        return _NOT_INSTALLED
    if os.geteuid() != 0:
        sys.stderr.write(f"eai test: the tests need {names}; run: sudo apt-get install -y {names}\n")
        return _NOT_INSTALLED
    sys.stderr.write(f"eai test: installing {names} ...\n")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.stderr.write(f"{done.stdout}{done.stderr}eai test: apt-get {command[0]} failed\n")
            return _NOT_INSTALLED
    return 0
