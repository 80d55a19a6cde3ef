"""Every error that can end a user's message has words for the user, or a reason why the default ones are right."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator

import pytest
from repository import ROOT, modules

TEXTS = tomllib.loads((ROOT / "services/formatter/src/eai_formatter/texts.toml").read_text(encoding="utf-8"))

DEFAULT_WORDS = {
    "INTERNAL_ERROR": "our bug: nothing that the user could do differently",
    "INVALID_MESSAGE": "not a message of a user that we know of",
    "POISON_MESSAGE": "it kills our consumers: nothing that the user could do differently",
    "UNROUTABLE": "our topology is wrong",
}
NEVER_ENDS_A_MESSAGE = {
    "tools/": "a tool is no stage of a user's message",
    "formatter": "what fails in the formatter is a callback, and the result is stored by then",
    "outbound": "the stage that used the guarded client says it in its own code",
}


class Errors:
    """The classes of the code base by name, as far as a syntax tree tells."""

    def __init__(self) -> None:
        self.bases: dict[str, list[str]] = {}
        self.codes: dict[str, str] = {}

    def add(self, node: ast.ClassDef) -> None:
        self.bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
        for statement in node.body:
            if isinstance(statement, ast.Assign) and _names(statement) == ["error_code"]:
                self.codes[node.name] = str(ast.literal_eval(statement.value))

    def ends_a_message(self, name: str) -> bool:
        """A Deferred only waits; what is neither Retriable nor Permanent is no error of a stage."""
        bases = self.bases.get(name, [])
        return name in ("Retriable", "Permanent") or any(self.ends_a_message(base) for base in bases)


def _names(statement: ast.Assign) -> list[str]:
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]


def codes() -> Iterator[str]:
    errors = Errors()
    for module in modules():
        if module.is_test or any(part in str(module) for part in NEVER_ENDS_A_MESSAGE):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                errors.add(node)
    yield from sorted({code for name, code in errors.codes.items() if errors.ends_a_message(name)})


CODES = list(codes())


def test_the_codes_were_found() -> None:
    assert {"AGENT_TIMEOUT", "AGENT_REFUSED", "TRANSCRIPTION_ERROR", "STAGE_TIMEOUT", "POISON_MESSAGE"} <= set(CODES)
    assert "AGENT_BUSY" not in CODES


@pytest.mark.parametrize("code", CODES)
def test_an_error_has_words_of_its_own_or_a_reason_for_the_default_ones(code: str) -> None:
    assert (code in TEXTS) != (code in DEFAULT_WORDS)


@pytest.mark.parametrize("code", [code for code in TEXTS if code != "default"])
def test_words_are_for_an_error_that_there_is(code: str) -> None:
    assert code in CODES
