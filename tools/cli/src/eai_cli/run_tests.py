"""`./eai test`: installs RabbitMQ and Redis if they are missing, then runs pytest, whose fixtures start private ones.

With `--compose`: starts a Docker engine if none runs, builds the images, and runs the tests that need containers.
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

__all__ = ["run_tests", "xdist_options"]

_ROOT = Path(__file__).resolve().parents[4]
# Programs, and the Debian packages that have them. Debian keeps servers in sbin, which not every PATH has.
_SERVERS = {"rabbitmq-server": "rabbitmq-server", "redis-server": "redis-server"}
# What runs the programs in the docs. A laptop without them skips those tests; CI does not.
_LANGUAGES = {"node": "nodejs", "go": "golang-go"}
_NOT_INSTALLED = 3
_DOCKER = _ROOT / "build-support" / "docker"
# With these, one process is faster, or the only one that works: few tests, the terminal, or xdist's own options.
_ONE_PROCESS_SHORT = frozenset({"-k", "-x", "-s", "-n", "-h"})
_ONE_PROCESS = frozenset({"--pdb", "--lf", "--last-failed", "--sw", "--stepwise", "--co", "--collect-only", "--help"})


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments from the repository's root; gives its exit code, 3 if the servers are missing."""
    if "--compose" in arguments:
        return _run_in_containers([argument for argument in arguments if argument != "--compose"])
    if (missing := _missing()) and (code := _install(missing)):
        return code
    return _pytest([*xdist_options(arguments, cpus=os.cpu_count() or 1), *arguments])


def xdist_options(arguments: Sequence[str], *, cpus: int) -> list[str]:
    """The options that run these arguments' tests in several processes, with servers of their own each.

    Empty if one process is faster: for a single file or test, and with options that pick few tests. The tests of a file
    stay in one process, and pytest's order holds, in which the slow files are first. There is one process more than
    CPUs, because the end-to-end tests wait more than they compute.
    """
    paths = [argument for argument in arguments if (_ROOT / argument.partition("::")[0]).exists()]
    is_small = len(paths) == 1 and not (_ROOT / paths[0]).is_dir()
    is_single = any(argument in _ONE_PROCESS or argument[:2] in _ONE_PROCESS_SHORT for argument in arguments)
    if cpus == 1 or is_small or is_single:
        return []
    return ["-n", str(min(cpus, 4) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]


def _pytest(arguments: Sequence[str]) -> int:
    # One hash seed for all processes: some tests have sets in their names, and xdist compares the names.
    environ = {"PYTHONHASHSEED": str(secrets.randbelow(2**32)), **os.environ}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=_ROOT, env=environ)


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
    """Whether an engine runs: the machine's, else one that is started here and stopped at the end of the context."""
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
