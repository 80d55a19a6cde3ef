"""What every package and every lock file has to have, and must not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT, packages

LOCKS = sorted(ROOT.glob("3rdparty/python/**/*.lock"))
LOCK_NAMES = {"default.lock", "pants.lock", "uv.lock", "black.lock", "mypy.lock", "pytest.lock", "ruff.lock"}
# An address works for one network, a path for one machine; names, versions and hashes work behind any mirror.
PLACES = re.compile(
    r"://|--(?:extra-)?index-url|--find-links|--trusted-host|(?:^|[\s=\"'(])(?:/|~/|[A-Za-z]:\\)\w|file:"
)
PINNED = re.compile(r"^[a-z0-9][a-z0-9._-]*(?:\[[a-z0-9,._-]+\])?==\S+")


def mistakes(lock: str) -> Iterator[str]:
    """What is wrong with the text of a lock file, as lines for a person."""
    lines = lock.replace("\\\n", " ").splitlines()
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        if PLACES.search(line):
            yield f"names a place: {line}"
        elif not PINNED.match(line):
            yield f"is not a version: {line}"
        elif "--hash=sha256:" not in line:
            yield f"has no hash: {line}"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_versions_with_hashes_and_no_place_to_get_them_from(lock: Path) -> None:
    assert list(mistakes(lock.read_text(encoding="utf-8"))) == []


def test_every_lock_is_seen() -> None:
    assert {lock.name for lock in LOCKS} >= LOCK_NAMES


@pytest.mark.parametrize(
    "lock",
    [
        "--index-url https://index.example/simple\n",
        "a @ https://files.example/a-1.whl --hash=sha256:00\n",
        "a @ file:///srv/a-1.whl --hash=sha256:00\n",
        "--find-links /srv/wheels\n",
        "-r /home/me/other.txt\n",
        "a>=1 --hash=sha256:00\n",
        "a==1\n",
    ],
)
def test_a_lock_that_works_only_here_is_found(lock: str) -> None:
    assert len(list(mistakes(lock))) == 1


def test_a_good_lock_is_not_complained_of() -> None:
    lock = "a-b==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
    assert list(mistakes(lock)) == []


@pytest.mark.parametrize("package", sorted(packages()))
@pytest.mark.parametrize("file", ["pyproject.toml", "BUILD", "src/BUILD", "src/{package}/py.typed"])
def test_a_package_can_be_installed_built_and_type_checked(package: str, file: str) -> None:
    assert (packages()[package] / file.format(package=package)).is_file()


@pytest.mark.parametrize("package", sorted(packages()))
def test_a_package_has_tests(package: str) -> None:
    assert list((packages()[package] / "tests").glob("**/test_*.py"))
