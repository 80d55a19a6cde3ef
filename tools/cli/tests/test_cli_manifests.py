"""`./eai manifests`: what a stage lacks is added once, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eai_cli import manifests
from eai_cli.manifests import missing, run_manifests
from eai_cli.services import DEFINITIONS
from eai_common.process import BrokerResources, CommonSettings, ServiceDefinition

ROOT = Path(__file__).resolve().parents[3]
LISTS = ("deploy", "pyproject.toml", "tools/cli/src/BUILD")
A_STAGE = ServiceDefinition("tally-two", CommonSettings, BrokerResources, DEFINITIONS[1].build)


@pytest.fixture()
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that name every stage, with one more stage registered."""
    for name in LISTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, tmp_path / name)
    monkeypatch.setattr(manifests, "DEFINITIONS", (*DEFINITIONS, A_STAGE))
    return tmp_path


def test_no_registered_stage_is_missing() -> None:
    assert missing(ROOT) == {}


def test_a_stage_is_added_once(copy: Path) -> None:
    assert run_manifests(check=True, root=copy) == 1
    assert run_manifests(check=False, root=copy) == 0
    assert missing(copy) == {}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("deploy/compose/compose.yaml", "    image: ${IMAGE_PREFIX:-}eai-tally-two:${EAI_VERSION:-development}"),
        ("deploy/compose/roll.sh", "stages=(tally-two formatter agent-router"),
        ("deploy/k8s/base/kustomization.yaml", "  - poller\n  - tally-two\n"),
        ("deploy/k8s/components/keda/workers.yaml", "queueName: eai.tally-two"),
        ("deploy/k8s/components/rabbitmq/network.yaml", "formatter, tally-two]"),
        ("deploy/k8s/components/monitoring/alerts.yaml", "poller|tally-two"),
        ("pyproject.toml", '"eai_poller", "eai_common", "eai_tally_two"]'),
        ("pyproject.toml", "eai_formatter | eai_poller | eai_tally_two"),
        ("tools/cli/src/BUILD", '"//services/tally-two/src",'),
        ("deploy/k8s/base/tally-two/autoscaler.yaml", "queue: eai.tally-two"),
    ],
)
def test_a_stage_is_added_to_each_place(copy: Path, file: str, line: str) -> None:
    run_manifests(check=False, root=copy)
    assert line in (copy / file).read_text("utf-8")


def test_a_place_that_is_gone_is_named(copy: Path) -> None:
    (copy / "deploy/compose/roll.sh").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"roll\.sh: no list of stages is left"):
        missing(copy)
