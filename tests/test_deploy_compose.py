"""deploy/compose as it is read: every stage can start with what it is given, can be scaled, and can do little harm."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT

from eai_cli.services import DEFINITIONS
from eai_common.process import load_settings
from eai_common.settings import ProcessSettings, describe

FOLDER = ROOT / "deploy" / "compose"
BY_NAME = {definition.name: definition for definition in DEFINITIONS}
OVERLAYS = {"desk": "compose.dev.yaml", "production": "compose.prod.yaml"}
CALLS_OUTSIDE = {"transcriber", "agent-router", "formatter"}
# In the form that the services take; a desk's own are in the repository.
PRODUCTION = {"api_token": "a-token-of-at-least-thirty-two-bytes"}
ASKED_FOR = {
    "EAI_VERSION": "1.2.3",
    "GOOGLE_PROJECT_ID": "rio",
    "GOOGLE_AGENT_ENGINE_ID": "42",
    "SECRETS_DIR": "/secrets",
}


def read(name: str) -> dict[str, Any]:
    """A compose file with its variables filled in."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    filled = re.sub(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}", lambda found: _value(found[1], found[2], found[3]), text)
    loaded: dict[str, Any] = yaml.safe_load(filled)
    return loaded


def _value(name: str, kind: str | None, rest: str | None) -> str:
    return (rest or "") if kind == "-" and rest else ASKED_FOR.get(name, "")


BASE = read("compose.yaml")


def environ_of(stage: str, overlay: str) -> dict[str, str]:
    """The environment of the stage's process; a path of a secret is where a copy of it is."""
    environ = dict(BASE["services"][stage]["environment"])
    environ |= read(overlay)["services"].get(stage, {}).get("environment", {})
    return {name: str(value) for name, value in environ.items()}


def with_secrets(environ: dict[str, str], folder: Path) -> dict[str, str]:
    """The same, with each secret's file where this process can read it."""
    there = {name: (folder / Path(value).name) for name, value in environ.items() if value.startswith("/run/secrets/")}
    for path in there.values():
        desk = FOLDER / "secrets" / "development" / path.name
        path.write_text(
            PRODUCTION.get(path.name) or (desk.read_text() if desk.exists() else '{"type": "service_account"}')
        )
    return {**environ, **{name: str(path) for name, path in there.items()}}


@pytest.mark.parametrize("overlay", OVERLAYS.values(), ids=OVERLAYS)
@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_can_start_with_what_it_is_given(stage: str, overlay: str, tmp_path: Path) -> None:
    load_settings(BY_NAME[stage], with_secrets(environ_of(stage, overlay), tmp_path))


@pytest.mark.parametrize("overlay", OVERLAYS.values(), ids=OVERLAYS)
@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_is_told_nothing_that_it_does_not_read(stage: str, overlay: str) -> None:
    described = describe(BY_NAME[stage].settings)
    known = {one.variable for one in described} | {f"{one.variable}_FILE" for one in described if one.is_secret}
    assert set(environ_of(stage, overlay)) - known == set()


@pytest.mark.parametrize("overlay", ["compose.yaml", *OVERLAYS.values()])
@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_can_have_as_many_replicas_as_one_likes(stage: str, overlay: str) -> None:
    service = read(overlay)["services"][stage]
    assert not {"container_name", "ports", "hostname"} & set(service)


@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_is_limited_and_has_no_privilege(stage: str) -> None:
    service = BASE["services"][stage]
    assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
    assert "no-new-privileges:true" in service["security_opt"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_has_longer_to_stop_than_it_takes_to_drain(stage: str) -> None:
    grace = ProcessSettings.read({}).shutdown_grace
    assert int(BASE["services"][stage]["stop_grace_period"].removesuffix("s")) > grace.total_seconds()


@pytest.mark.parametrize("stage", BY_NAME)
def test_a_stage_reaches_only_what_its_work_needs(stage: str) -> None:
    definition = BY_NAME[stage]
    needed = {"front": definition.serves_clients, "broker": definition.uses_broker, "outside": stage in CALLS_OUTSIDE}
    reached = {"store", *(network for network, is_needed in needed.items() if is_needed)}
    assert set(BASE["services"][stage]["networks"]) == reached


def test_only_the_edge_and_the_calls_to_providers_lead_out_of_the_machine() -> None:
    assert {name for name, network in BASE["networks"].items() if not (network or {}).get("internal")} == {
        "edge",
        "outside",
    }


def test_only_the_edge_has_a_port_and_it_is_on_this_machine_by_default() -> None:
    ports = {name: service["ports"] for name, service in BASE["services"].items() if "ports" in service}
    assert ports == {"edge": ["127.0.0.1:8000:8080"]}


@pytest.mark.parametrize("name", ["compose.yaml", *OVERLAYS.values()])
def test_every_image_can_be_named_from_outside_and_none_is_the_latest(name: str) -> None:
    images = re.findall(r"^ *image: (.+)$", (FOLDER / name).read_text(), re.MULTILINE)
    assert all(image.startswith("${") and ":latest" not in image for image in images)


def test_secrets_are_files_and_a_desks_are_refused_in_production() -> None:
    assert all(secret["file"].startswith("/secrets/") for secret in read("compose.prod.yaml")["secrets"].values())
    assert not [name for name in os.listdir(FOLDER / "secrets" / "development") if "google" in name]
