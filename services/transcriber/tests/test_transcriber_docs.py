"""docs/transcription.md is true: its tables say what the code does and what users read."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import grpc
import pytest

from eai_common.errors import Permanent, Retriable, StageError
from eai_common.settings.base import name_variable
from eai_transcriber import errors, google_speech
from eai_transcriber.settings import AudioSettings, SpeechSettings

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "transcription.md").read_text(encoding="utf-8")
TEXTS = tomllib.loads((ROOT / "services/formatter/src/eai_formatter/texts.toml").read_text(encoding="utf-8"))
RAISED = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = DOC.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_every_way_to_end_is_in_the_table_with_the_words_that_the_user_reads() -> None:
    told = {code.strip("`"): text for code, _, _, text in rows("How it can end")}
    assert told == {kind.error_code: TEXTS[kind.error_code]["text"] for kind in RAISED}


@pytest.mark.parametrize("kind", RAISED)
def test_the_table_says_whether_it_is_tried_again(kind: type[StageError]) -> None:
    (again,) = (again for code, _, again, _ in rows("How it can end") if code.strip("`") == kind.error_code)
    assert issubclass(kind, Retriable if again == "yes" else Permanent) or again == "both"


def test_every_grpc_code_is_in_the_table_of_its_error() -> None:
    told = {
        code: error.strip("`")
        for _, codes, _, error, _ in rows("Who recognises")
        for code in re.findall(r"`([A-Z_]+)`", codes)
    }
    classified = {**google_speech._RETRIABLE, **google_speech._PERMANENT}
    assert told == {code: kind.error_code for code, kind in classified.items()}
    assert set(told) == {code.name for code in grpc.StatusCode} - {"OK"}


def test_every_setting_that_the_page_names_exists() -> None:
    known = {name_variable(group, name) for group in (AudioSettings, SpeechSettings) for name in group.model_fields}
    elsewhere = {"WORKER_TIMEOUT", "MAX_PARALLEL", "RABBITMQ_MAX_RETRIES", *(kind.error_code for kind in RAISED)}
    codes = {code.name for code in grpc.StatusCode}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", DOC))
    assert named - elsewhere - codes <= known
