"""Whether the services would start with what the manifests set: names known, values taken, nothing missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manifests.rendering import DEPLOY, STAGES, Manifest, Rendered

from eai_agent_router.provider import load_providers
from eai_cli.services import DEFINITIONS
from eai_common.process import load_settings
from eai_common.settings import describe

BY_NAME = {definition.name: definition for definition in DEFINITIONS}
MOUNTED = "/run/secrets/eai/"
# What somebody may have put into each key of the Secrets, in the form that the service takes it in.
CONTENT = {
    "RABBITMQ_URL": "amqp://user:password@rabbitmq.eai-gateway.svc:5672/",
    "REDIS_URL": "redis+sentinel://redis-0.redis:26379,redis-1.redis:26379,redis-2.redis:26379/gateway",
    "REDIS_PASSWORD": "password",
    "API_TOKEN": "a-token-of-at-least-thirty-two-bytes",
    "MESSAGE_ID_KEY": "a key",
    "CALLBACK_SECRETS": "whsec_" + "QUJD" * 8,
    "GOOGLE_APPLICATION_CREDENTIALS": '{"type": "service_account"}',
}


def container_of(rendered: Rendered, stage: str) -> Manifest:
    (container,) = rendered.one("Deployment", stage)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environ_of(rendered: Rendered, stage: str) -> dict[str, str]:
    """The environment that Kubernetes gives the stage's process."""
    container = container_of(rendered, stage)
    environ: dict[str, str] = {}
    for source in container["envFrom"]:
        environ |= rendered.one("ConfigMap", source["configMapRef"]["name"])["data"]
    return environ | {variable["name"]: variable["value"] for variable in container["env"]}


def secret_items(rendered: Rendered, stage: str) -> dict[str, tuple[str, str]]:
    """File in the secrets' volume to the Secret and key that it comes from."""
    volumes = rendered.one("Deployment", stage)["spec"]["template"]["spec"]["volumes"]
    (projected,) = (volume["projected"] for volume in volumes if volume["name"] == "secrets")
    return {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in projected["sources"]
        for item in source["secret"]["items"]
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_told_nothing_that_it_does_not_read(environment: Rendered, stage: str) -> None:
    described = describe(BY_NAME[stage].settings)
    known = {setting.variable for setting in described}
    known |= {f"{setting.variable}_FILE" for setting in described if setting.is_secret}
    unknown = {name for name in environ_of(environment, stage) if name not in known and not name.startswith("OTEL_")}
    assert unknown == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_with_what_it_is_told(environment: Rendered, stage: str, tmp_path: Path) -> None:
    environ = environ_of(environment, stage)
    for file in secret_items(environment, stage):
        (tmp_path / file).write_text(CONTENT[file])
    here = {name: value.replace(MOUNTED, f"{tmp_path}/") for name, value in environ.items()}
    settings = load_settings(_definition(stage), here)
    assert settings.process.environment == ("staging" if environment.overlay.startswith("staging") else "production")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_lacks_a_secret_is_found(environment: Rendered, stage: str, tmp_path: Path) -> None:
    environ = environ_of(environment, stage)
    here = {name: value.replace(MOUNTED, f"{tmp_path}/") for name, value in environ.items()}
    with pytest.raises(Exception, match="REDIS_URL_FILE"):
        load_settings(_definition(stage), here)


@pytest.mark.parametrize("stage", STAGES)
def test_every_secret_that_is_mounted_is_read_and_the_other_way_round(environment: Rendered, stage: str) -> None:
    read = {value.removeprefix(MOUNTED) for value in environ_of(environment, stage).values() if MOUNTED in value}
    assert read == set(secret_items(environment, stage))


@pytest.mark.parametrize("stage", STAGES)
def test_no_secret_stands_in_a_manifest(environment: Rendered, stage: str) -> None:
    secret = {setting.variable for setting in describe(BY_NAME[stage].settings) if setting.is_secret}
    assert not secret & set(environ_of(environment, stage))
    assert list(environment.of("Secret")) == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_secret_is_in_the_documentation(environment: Rendered, stage: str) -> None:
    page = (DEPLOY.parent / "docs" / "deployment.md").read_text(encoding="utf-8")
    for name, key in secret_items(environment, stage).values():
        assert any(f"`{name}`" in line and f"`{key}`" in line for line in page.splitlines()), (name, key)


def test_every_provider_that_a_message_may_name_is_configured_in_the_router(environment: Rendered) -> None:
    offered = environ_of(environment, "ingress")["AGENT_PROVIDERS"].split(",")
    router = {name: value for name, value in environ_of(environment, "agent-router").items() if MOUNTED not in value}
    configured = {name for name, one in load_providers().items() if one.settings.read(router).is_configured}
    assert set(offered) - configured == set()


def _definition(stage: str) -> Any:
    return BY_NAME[stage]
