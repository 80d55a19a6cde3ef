"""`./eai config`, and that docs/configuration.md is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eai_cli.app import app
from eai_cli.configuration import all_settings, as_markdown

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"

GOOGLE = {"GOOGLE_PROJECT_ID": "rj-eai", "GOOGLE_AGENT_ENGINE_ID": "1"}

# The names that the predecessor's documentation tells and that are read today.
KEPT = """PORT ENVIRONMENT API_TOKEN REDIS_URL REDIS_PASSWORD REDIS_POOL_SIZE RABBITMQ_URL RABBITMQ_EXCHANGE
RABBITMQ_PREFETCH_COUNT RABBITMQ_MAX_RETRIES RABBITMQ_RETRY_DELAY GOOGLE_PROJECT_ID GOOGLE_REGION
GOOGLE_AGENT_ENGINE_ID EAI_AGENT_SERVICE_URL EAI_AGENT_SERVICE_TOKEN MAX_PARALLEL WORKER_TIMEOUT MAX_REQUEST_SIZE_MB
LOG_LEVEL LOG_FORMAT ENABLE_REQUEST_LOGGING PROMETHEUS_ENABLED METRICS_PATH OTEL_ENABLED TASK_RESULT_TTL
TASK_STATUS_TTL AGENT_ID_CACHE_TTL TRANSCRIBE_MAX_DURATION""".split()


SETTINGS = {setting.description.variable: setting.description for setting in all_settings()}


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), "run ./eai config --markdown > docs/configuration.md"


def test_every_setting_says_what_it_is_in_a_sentence() -> None:
    assert [name for name, setting in SETTINGS.items() if not setting.description.endswith(".")] == []


@pytest.mark.parametrize("name", KEPT)
def test_a_name_of_the_predecessors_documentation_still_works(name: str) -> None:
    assert name in SETTINGS


def test_no_secret_has_a_default() -> None:
    secrets = {name: setting.default for name, setting in SETTINGS.items() if setting.is_secret}
    assert secrets.keys() >= {"API_TOKEN", "REDIS_URL", "RABBITMQ_URL"}
    assert set(secrets.values()) <= {"", None}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_sounds_secret_is_a_secret(name: str) -> None:
    sounds_secret = name.endswith(("_TOKEN", "_PASSWORD", "_SECRET", "_API_KEY", "_SECRETS"))
    assert SETTINGS[name].is_secret or not sounds_secret


def test_the_settings_are_shown_as_a_table() -> None:
    shown = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["config"])
    assert (shown.exit_code, "RABBITMQ_PREFETCH_COUNT" in shown.stdout) == (0, True)


def test_a_check_of_a_usable_environment_says_so() -> None:
    checked = CliRunner(env=GOOGLE).invoke(app, ["config", "--check"])
    assert (checked.exit_code, checked.stdout) == (0, "all settings are valid\n")


def test_a_check_tells_every_mistake_once() -> None:
    checked = CliRunner(env={**GOOGLE, "PORT": "70000", "LOG_LEVEL": "loud"}).invoke(app, ["config", "--check"])
    assert (checked.exit_code, checked.stderr.splitlines()) == (
        2,
        [
            'PORT: got "70000", takes a whole number from 0 to 65535',
            'LOG_LEVEL: got "loud", takes one of debug, info, warning, error',
        ],
    )
