"""Runs schemathesis against the live descriptions of ingress and poller, on real RabbitMQ and Redis, all checks on.

`PYTHONPATH=tests .venv/bin/python -m acceptance.described_api [--requests 20000] [--seed N]` prints one line of JSON
for each service and fails if a check did.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.deployment import Client, FiveProcesses, five_processes

__all__ = ["DescribedApi", "Outcome", "main", "run_against"]

SERVICES = ("ingress", "poller")
_CREDENTIAL = "only-the-acceptance-run-knows-this-token"
_OPERATIONS = {"ingress": 1, "poller": 3}  # how many share the requests; a wrong number only shifts their count
_MOST_S = 3600.0


@dataclass(frozen=True, slots=True)
class DescribedApi:
    """A running service that describes itself. `known` are parameter values that lead to something."""

    url: str
    known: dict[str, str]
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What schemathesis said."""

    is_passed: bool
    requests: int
    report: str


def run_against(api: DescribedApi, folder: Path, *, examples: int, seed: int | None = None) -> Outcome:
    """One run, of about `examples` generated cases for each operation beside those of the examples and coverage."""
    config = folder / "schemathesis.toml"
    config.write_text(_config(api.known))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{api.url}/openapi.json"]
    command += ["--checks", "all", "--max-examples", str(examples), "--request-timeout", "40", "--no-color"]
    command += ["--header", f"Authorization: Bearer {api.credential}"] if api.credential else []
    command += ["--seed", str(seed)] if seed is not None else []
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_MOST_S, check=False)
    report = done.stdout + done.stderr
    counted = re.search(r"(\d+) generated", report)
    return Outcome(done.returncode == 0, int(counted[1]) if counted else 0, report)


def finished_message(client: Client) -> str:
    """The id of a message that has been answered."""
    message_id = client.send("+5521999990000", "Qual o horário do posto de saúde?")
    client.answer(message_id)
    return message_id


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole run; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="for both services together, at least")
    parser.add_argument("--seed", type=int, default=None)
    told = parser.parse_args(arguments)
    settings = {
        "API_TOKEN": _CREDENTIAL,
        "RATE_LIMIT_REQUESTS_PER_MINUTE": "0",
        "RATE_LIMIT_BURST": "0",
        "TASK_RESULT_TTL": "4h",
        "LOG_LEVEL": "error",
    }
    with tempfile.TemporaryDirectory() as name, five_processes(Path(name), **settings) as gateway:
        gateway.client.http.headers["Authorization"] = f"Bearer {_CREDENTIAL}"
        known = {"message_id": finished_message(gateway.client)}
        return max(_service(gateway, service, known, Path(name), told) for service in SERVICES)


def _service(
    gateway: FiveProcesses, service: str, known: dict[str, str], folder: Path, told: argparse.Namespace
) -> int:
    """Runs with new seeds until its share of the requests is made, as a run ends early when it has tried everything."""
    share, made, runs, began = told.requests // len(SERVICES), 0, 0, time.monotonic()
    while made < share:
        examples = max(10, (share - made) // _OPERATIONS[service])
        seed = None if told.seed is None else told.seed + runs
        api = DescribedApi(gateway.url(service), known, _CREDENTIAL)
        outcome = run_against(api, folder, examples=examples, seed=seed)
        made, runs = made + outcome.requests, runs + 1
        if not outcome.is_passed or outcome.requests == 0:
            sys.stdout.write(outcome.report + gateway.process(service).output()[-4000:])
            return 1
    took_s = round(time.monotonic() - began)
    sys.stdout.write(json.dumps({"service": service, "requests": made, "runs": runs, "failures": 0, "took_s": took_s}))
    sys.stdout.write("\n")
    return 0


def _config(known: dict[str, str]) -> str:
    """422 is what the contract answers to an Idempotency-Key that was used for another body, and for nothing else."""
    parameters = "".join(f'"query.{name}" = "{value}"\n' for name, value in known.items())
    accepted = '["2xx", "401", "403", "404", "422", "429", "503"]'
    return f"[checks.positive_data_acceptance]\nexpected-statuses = {accepted}\n\n[parameters]\n{parameters}"


if __name__ == "__main__":
    sys.exit(main())
