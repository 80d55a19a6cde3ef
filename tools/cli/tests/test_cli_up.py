"""`./eai up`: what the services are told, what is refused in production, and one message through the whole of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from eai_cli.app import app
from eai_cli.up import NotInProduction, merge_environment, refuse_in_production

RECORDING = Path(__file__).parents[3] / "tests" / "e2e" / "data" / "spoken-question.wav"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "RABBITMQ_URL": "amqp://rabbit",
    "REDIS_URL": "redis://redis",
    "GOOGLE_PROJECT_ID": "rj-eai",
}


def environment(*, environ: dict[str, str] | None = None, dotenv: dict[str, str] | None = None) -> dict[str, str]:
    return merge_environment(environ or {}, dotenv or {}, host="127.0.0.1", port=8000)


# What the services read


def test_without_anything_set_the_services_are_told_what_suits_a_laptop() -> None:
    assert environment() == {"LOG_FORMAT": "text", "MAX_PARALLEL": "20", "HOST": "127.0.0.1", "PORT": "8000"}


@pytest.mark.parametrize(
    ("environ", "dotenv", "expected"),
    [
        ({}, {}, "text"),
        ({}, {"LOG_FORMAT": "json"}, "json"),
        ({"LOG_FORMAT": "json"}, {}, "json"),
        ({"LOG_FORMAT": "json"}, {"LOG_FORMAT": "text"}, "json"),
    ],
    ids=["nothing set", "only .env", "only environment", "both"],
)
def test_the_environment_stands_above_dotenv_and_dotenv_above_the_laptops_defaults(
    environ: dict[str, str], dotenv: dict[str, str], expected: str
) -> None:
    assert environment(environ=environ, dotenv=dotenv)["LOG_FORMAT"] == expected


def test_the_commands_options_stand_above_all() -> None:
    told = environment(environ={"PORT": "1", "HOST": "0.0.0.0"}, dotenv={"PORT": "2"})
    assert (told["PORT"], told["HOST"]) == ("8000", "127.0.0.1")


def test_a_variable_that_is_set_to_nothing_counts_as_not_set() -> None:
    # So that a blank line of .env does not stand in the way of the sandbox's own value.
    told = environment(environ={"REDIS_URL": ""}, dotenv={"GOOGLE_PROJECT_ID": "", "REDIS_URL": "redis://redis"})
    assert {"GOOGLE_PROJECT_ID", "REDIS_URL"} & told.keys() == set()


# Production


def test_production_with_all_it_needs_is_allowed() -> None:
    refuse_in_production(PRODUCTION)


@pytest.mark.parametrize("environment_name", ["development", "staging", ""])
def test_elsewhere_nothing_is_needed(environment_name: str) -> None:
    refuse_in_production({"ENVIRONMENT": environment_name})


@pytest.mark.parametrize("missing", ["RABBITMQ_URL", "REDIS_URL", "GOOGLE_PROJECT_ID"])
@pytest.mark.parametrize("empty", [False, True], ids=["unset", "empty"])
def test_production_refuses_what_would_lose_messages_or_answer_citizens_from_a_sandbox(
    missing: str, empty: bool
) -> None:
    variables = {name: value for name, value in PRODUCTION.items() if name != missing}
    with pytest.raises(NotInProduction, match=missing):
        refuse_in_production({**variables, missing: ""} if empty else variables)


# The whole of it


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eai_cli", *arguments]


def bare_environment(**variables: str) -> dict[str, str]:
    """The machine's own, without any setting of ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ} | variables


def test_a_mistake_in_a_setting_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RABBITMQ_PREFETCH_COUNT=ten\nGOOGLE_PROJECT_ID=x\n", encoding="utf-8")
    done = subprocess.run(
        command("up", "--port", "0"), cwd=tmp_path, env=bare_environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert 'RABBITMQ_PREFETCH_COUNT: got "ten", takes a whole number from 1 to 1000' in done.stderr


def test_production_in_memory_is_refused_with_what_to_set(tmp_path: Path) -> None:
    done = subprocess.run(
        command("up"),
        cwd=tmp_path,
        env=bare_environment(ENVIRONMENT="production"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "ENVIRONMENT=production without RABBITMQ_URL and REDIS_URL" in done.stderr) == (2, True)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with everything in memory and a sandbox for its agents, started beside a .env with blank lines."""
    folder = tmp_path_factory.mktemp("up")
    (folder / ".env").write_text("GOOGLE_PROJECT_ID=\nREDIS_URL=\nAPI_TOKEN=hunter2\n", encoding="utf-8")
    with subprocess.Popen(
        command("up", "--port", "0"), cwd=folder, env=bare_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            word, _, url = process.stdout.readline().strip().partition(" ")
            assert word == "ready"
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def eai(*arguments: str, url: str, token: str = "hunter2", stdin: str = "") -> tuple[int, str, str]:
    """Run a command against the gateway: its exit code, what it printed, and what it said on the side."""
    done = CliRunner(env={"EAI_BASE_URL": url, "EAI_TOKEN": token}).invoke(app, arguments, input=stdin)
    return done.exit_code, done.stdout, done.stderr


def test_a_message_that_is_sent_is_answered(gateway: str) -> None:
    code, printed, _ = eai("send", "Qual o horário do posto de saúde?", url=gateway)
    assert (code, bool(printed.strip())) == (0, True)


def test_the_raw_result_can_be_printed(gateway: str) -> None:
    code, printed, _ = eai("send", "--json", "--user", "+5521999990001", "Oi", url=gateway)
    result = json.loads(printed)
    assert (code, result["status"], result["thread_id"]) == (0, "completed", "+5521999990001")


def test_a_recording_that_is_sent_is_heard_and_answered(gateway: str) -> None:
    code, printed, said = eai("send", "--audio", str(RECORDING), url=gateway)
    assert (code, bool(printed.strip()), "heard: " in said) == (0, True, True)


def test_without_the_token_nothing_is_accepted(gateway: str) -> None:
    code, _, said = eai("send", "Oi", url=gateway, token="wrong")
    assert (code, "401 Unauthorized" in said) == (2, True)


def test_a_conversation_goes_on_until_an_empty_line(gateway: str) -> None:
    code, printed, _ = eai("chat", "--user", "+5521999990002", url=gateway, stdin="Oi\nTudo bem?\n\n")
    assert (code, printed.count("agent")) == (0, 2)


def test_all_services_are_ready_on_one_port(gateway: str) -> None:
    assert {path: httpx.get(f"{gateway}{path}").status_code for path in ("/live", "/ready", "/health", "/metrics")} == {
        "/live": 200,
        "/ready": 200,
        "/health": 200,
        "/metrics": 200,
    }
