"""`./eai test`: sees that RabbitMQ and Redis are installed, then runs pytest, whose fixtures start private ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_tests"]

_ROOT = Path(__file__).resolve().parents[4]
# Program to look for, and Debian's package that brings it. Debian keeps servers in sbin, which not every PATH has.
_SERVERS = {"rabbitmq-server": "rabbitmq-server", "redis-server": "redis-server"}
# What the programs in the docs are run in. A laptop without them skips those tests; CI does not.
_LANGUAGES = {"node": "nodejs", "go": "golang-go"}
_NOT_INSTALLED = 3


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest from the repository's root with these arguments; gives its exit code, 3 without the servers."""
    if missing := _missing():
        code = _install(missing)
        if code != 0:
            return code
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=_ROOT)


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
