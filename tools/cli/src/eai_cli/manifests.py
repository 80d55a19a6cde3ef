"""`./eai manifests`: adds a registered stage to Compose, Kubernetes and the tools that list all stages.

Only what is missing is added, from deploy/templates, for a stage that consumes one queue and calls nobody outside. From
then on the files are the stage's own, to be tuned by hand; nothing that is there is ever changed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Protocol

from eai_cli.services import DEFINITIONS

__all__ = ["missing", "run_manifests"]

_ROOT = Path(__file__).resolve().parents[4]
_TEMPLATES = Path("deploy/templates")
_FOLDER = Path("deploy/k8s/base")


class Edit(Protocol):
    """One place that names every stage."""

    @property
    def path(self) -> str: ...

    def add(self, text: str, stage: str) -> str:
        """The text with the stage in it; unchanged if it is there already. Raises ValueError if its place is gone."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of lists in one line. It comes after what `items` matches; `item` has what joins it to the others."""

    path: str
    items: str
    item: str

    def add(self, text: str, stage: str) -> str:
        """Every list that matches gets the item. Raises ValueError if none does."""
        item = _fill(self.item, stage)
        is_there = re.compile(rf"(?<![\w-]){re.escape(item.strip(' ,|'))}(?![\w-])")

        def extend(found: re.Match[str]) -> str:
            line = text[found.start() :].partition("\n")[0]
            return found[0] if is_there.search(line) else found[0] + item

        added, count = re.subn(self.items, extend, text)
        if not count:
            raise ValueError(f"{self.path}: no list of stages is left that matches {self.items}")
        return added


@dataclass(frozen=True, slots=True)
class Block:
    """Lines in front of a marker; at the end of the file without one. `known` matches when they are there."""

    path: str
    known: str
    lines: str
    marker: str = ""

    def add(self, text: str, stage: str) -> str:
        """Raises ValueError without the marker."""
        if re.search(_fill(self.known, re.escape(stage)), text, re.MULTILINE):
            return text
        if not self.marker:
            return text + _fill(self.lines, stage)
        before, marker, after = text.partition(self.marker)
        if not marker:
            raise ValueError(f"{self.path}: the line {self.marker.strip()!r} is gone")
        return f"{before}{_fill(self.lines, stage)}{marker}{after}"


_HERE = "# `./eai manifests` adds stages above this line."


def _edits(templates: Path) -> Iterator[Edit]:
    for name in ("compose.yaml", "compose.dev.yaml", "compose.prod.yaml"):
        yield Block(f"deploy/compose/{name}", r"^  @stage@:$", (templates / name).read_text("utf-8"), f"  {_HERE}")
    yield Item("deploy/compose/roll.sh", r"stages=\((?=[a-z])", "@stage@ ")
    yield Block("deploy/k8s/base/kustomization.yaml", r"^  - @stage@$", "  - @stage@\n", f"  {_HERE}")
    for overlay in ("prod", "staging"):
        image = "  - name: eai-@stage@\n    newTag: 0.1.0\n"
        yield Block(f"deploy/k8s/{overlay}/kustomization.yaml", r"^  - name: eai-@stage@$", image, f"  {_HERE}")
    keda = (templates / "keda.yaml").read_text("utf-8")
    yield Block("deploy/k8s/components/keda/workers.yaml", r"^  name: @stage@$", keda)
    yield Item("deploy/k8s/components/rabbitmq/network.yaml", r"\[ingress(?:, [\w-]+)*(?=\])", ", @stage@")
    yield Item("deploy/k8s/components/monitoring/alerts.yaml", r"ingress(?:\|[\w-]+)+", "|@stage@")
    yield Item("deploy/monitoring/grafana-dashboard.json", r"ingress(?:\|[\w-]+)+", "|@stage@")
    yield Item("pyproject.toml", r'"eai_\w+"(?:, "eai_\w+")+', ', "@package@"')
    yield Item("pyproject.toml", r"eai_sandbox(?: \| eai_\w+)+", " | @package@")
    target = '"//services/@stage@/src"'
    yield Block("tools/cli/src/BUILD", target, f"            {target},\n", f"            {_HERE}")


def missing(root: Path) -> Mapping[Path, str]:
    """The files that lack a registered stage, with their new content. Raises ValueError if a place in one is gone."""
    changed: dict[Path, str] = {}
    workers = [one.name for one in DEFINITIONS if one.uses_broker and not one.serves_clients]
    for edit in _edits(root / _TEMPLATES):
        path = root / edit.path
        before = changed.get(path) or path.read_text("utf-8")
        after = reduce(edit.add, workers, before)
        if after != before:
            changed[path] = after
    for stage in workers:
        for template in sorted((root / _TEMPLATES / "k8s").iterdir()):
            if not (path := root / _FOLDER / stage / template.name).exists():
                changed[path] = _fill(template.read_text("utf-8"), stage)
    return changed


def run_manifests(*, check: bool, root: Path = _ROOT) -> int:
    """Write what is missing, or only name it; returns the exit code: 1 if something is missing and was not written."""
    found = missing(root)
    for path, text in found.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        sys.stdout.write(f"{path.relative_to(root)}: {'lacks a stage' if check else 'written'}\n")
    return 1 if check and found else 0


def _fill(template: str, stage: str) -> str:
    return template.replace("@stage@", stage).replace("@package@", f"eai_{stage.replace('-', '_')}")
