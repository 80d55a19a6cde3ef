"""docs/callbacks.md is true: its programs verify real callbacks, its tables say what the code does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eai_common.messages import AgentReplied, TaskCompleted
from eai_common.settings.base import name_variable
from eai_formatter.callbacks import CallbackSettings
from eai_formatter.callbacks.payload import build_payload
from eai_formatter.callbacks.signing import Signer, parse_secrets
from eai_formatter.callbacks.stage import RETRIES
from eai_formatter.rendering import format_reply
from eai_formatter.result import completed_result

DOC = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text(encoding="utf-8")
OURS = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwQ0s="
OLD = "whsec_QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD"
STRANGE = "whsec_WFlaWFlaWFlaWFlaWFlaWFlaWFlaWFlaWFla"
BODY = '{"content":"Olá! ✓"}'


def program(language: str) -> str:
    match = re.search(rf"^```{language}\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


@dataclass(frozen=True, slots=True)
class Case:
    """A request as a receiver sees it."""

    name: str
    is_ours: bool
    body: str = BODY
    signed_by: str = OURS
    age: timedelta = timedelta()
    without: str = ""

    @property
    def headers(self) -> dict[str, str]:
        at = datetime.now(UTC) - self.age
        headers = dict(Signer(parse_secrets(self.signed_by)).headers("id-1", BODY.encode(), at=at))
        headers.pop(self.without, None)
        return headers

    def as_json(self) -> dict[str, object]:
        return {"body": self.body, "headers": self.headers, "secret": OURS}


CASES = [
    Case("ours", is_ours=True),
    Case("the first of two secrets", is_ours=True, signed_by=f"{OURS},{OLD}"),
    Case("the second of two secrets", is_ours=True, signed_by=f"{OLD},{OURS}"),
    Case("a minute old", is_ours=True, age=timedelta(minutes=1)),
    Case("a stranger's", is_ours=False, signed_by=STRANGE),
    Case("tampered with", is_ours=False, body=BODY.replace("Olá", "Ola")),
    Case("an hour old", is_ours=False, age=timedelta(hours=1)),
    Case("from the future", is_ours=False, age=timedelta(hours=-1)),
    *(Case(f"no {name}", is_ours=False, without=f"webhook-{name}") for name in ("id", "timestamp", "signature")),
]
EXPECTED = {case.name: case.is_ours for case in CASES}


def test_the_python_program_tells_ours_from_others() -> None:
    names: dict[str, Any] = {}
    exec(program("python"), names)
    verify: Callable[[bytes, dict[str, str], str], object] = names["verify"]

    def accepts(case: Case) -> bool:
        try:
            return bool(verify(case.body.encode(), case.headers, OURS) == json.loads(BODY))
        except names["WebhookVerificationError"]:
            return False

    assert {case.name: accepts(case) for case in CASES} == EXPECTED


JAVASCRIPT_CASES = """
import { readFileSync } from "node:fs";
const accepts = ({ body, headers, secret }) => {
  try {
    return verify(Buffer.from(body), headers, secret).content === "Olá! ✓";
  } catch {
    return false;
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(accepts)));
"""


def test_the_javascript_program_tells_ours_from_others(tmp_path: Path) -> None:
    (tmp_path / "verify.mjs").write_text(program("javascript") + JAVASCRIPT_CASES)
    assert accepted([installed("node"), str(tmp_path / "verify.mjs")]) == EXPECTED


GO_CASES = """
package main

import (
	"encoding/json"
	"os"
)

func main() {
	var cases []struct {
		Body, Secret string
		Headers      map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	accepted := []bool{}
	for _, one := range cases {
		h := one.Headers
		err := verify([]byte(one.Body), h["webhook-id"], h["webhook-timestamp"], h["webhook-signature"], one.Secret)
		accepted = append(accepted, err == nil)
	}
	_ = json.NewEncoder(os.Stdout).Encode(accepted)
}
"""


def test_the_go_program_tells_ours_from_others(tmp_path: Path) -> None:
    (tmp_path / "verify.go").write_text(program("go"))
    (tmp_path / "main.go").write_text(GO_CASES)
    assert accepted([installed("go"), "run", str(tmp_path / "verify.go"), str(tmp_path / "main.go")]) == EXPECTED


def installed(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        assert os.environ.get("CI") != "true", f"{name} is missing, which ./eai test installs in CI"
        pytest.skip(f"{name} is not installed, so docs/callbacks.md's program for it is not run")
    return path


def accepted(command: list[str]) -> dict[str, bool]:
    """What the program in another language says to each case."""
    cases = json.dumps([case.as_json() for case in CASES])
    environment = {**os.environ, "GO111MODULE": "off"}
    done = subprocess.run(
        command, input=cases, capture_output=True, text=True, timeout=100, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(EXPECTED, json.loads(done.stdout), strict=True))


def test_the_example_has_the_fields_of_a_real_one() -> None:
    replied = AgentReplied.model_validate(
        {
            "message_id": "019b7a01-6b7b-7c1d-8a2e-5f0c9d3e4b21",
            "user_number": "+5521999990000",
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "messages": [],
            "agent_id": "user_+5521999990000",
        }
    )
    result = completed_result(replied, now=replied.timestamp, format_text=format_reply)
    real = json.loads(build_payload(TaskCompleted.after(replied, status="completed", result=result)))
    example = json.loads(program("json"))
    assert (example.keys(), example["data"].keys()) == (real.keys(), real["data"].keys())


def in_words(duration: timedelta) -> str:
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def test_the_schedule_is_the_one_that_is_kept() -> None:
    rows = ["| 1 | | |"]
    for number, wait in enumerate(RETRIES.waits, start=2):
        since = sum(RETRIES.waits[: number - 1], timedelta())
        rows.append(f"| {number} | {in_words(wait)} | {in_words(since)} |")
    assert "\n".join(rows) in DOC


def test_every_setting_is_explained() -> None:
    names = [name_variable(CallbackSettings, name) for name in CallbackSettings.model_fields]
    assert [name for name in names if f"`{name}`" not in DOC] == []
