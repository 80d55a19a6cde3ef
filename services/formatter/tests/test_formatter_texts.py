"""The words for failures."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest
from pydantic import ValidationError

from eai_formatter.texts import FailureText, FailureTexts

SOURCE = tomllib.loads(files("eai_formatter").joinpath("texts.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def texts() -> FailureTexts:
    return FailureTexts.packaged()


def test_a_code_has_its_own_words(texts: FailureTexts) -> None:
    assert texts.of("TRANSCRIPTION_ERROR").error == "Audio transcription failed"


@pytest.mark.parametrize("code", ["NEVER_HEARD_OF", "", "default", "agent_timeout"])
def test_a_code_without_words_gets_the_default(texts: FailureTexts, code: str) -> None:
    assert texts.of(code) == texts.of("default")


def test_without_a_default_there_are_no_texts() -> None:
    with pytest.raises(KeyError):
        FailureTexts({"AGENT_TIMEOUT": FailureText(error="x", text="y")})


def test_a_field_that_is_misspelt_in_the_file_is_refused() -> None:
    with pytest.raises(ValidationError):
        FailureText.model_validate({"error": "x", "txt": "y"})


@pytest.mark.parametrize("code", SOURCE)
def test_a_user_is_told_in_one_message_without_a_code_or_a_number(code: str) -> None:
    text = SOURCE[code]["text"]
    assert text == text.strip()
    assert 20 < len(text) < 300
    assert re.search(r"[A-Z]{2,}_|\d", text) is None


@pytest.mark.parametrize("code", SOURCE)
def test_a_client_is_told_in_one_line_without_a_code(code: str) -> None:
    error = SOURCE[code]["error"]
    assert re.fullmatch(r"[A-Z][a-z ,]+[a-zA-Z ,]*", error)


@pytest.mark.parametrize("code", [code for code in SOURCE if code != "default"])
def test_a_code_is_written_as_codes_are(code: str) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)+", code)
