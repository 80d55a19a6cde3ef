"""The glossary names what the code defines, and stays short enough to be read."""

from __future__ import annotations

import importlib
import re

import pytest
from repository import ROOT

_ROW = re.compile(
    r"^\| (?P<term>[^|]+?) \| (?P<meaning>[^|]+?) \| `(?P<module>[\w.]+):(?P<name>\w+)` \|$", re.MULTILINE
)
_GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
_ROWS = {match["term"]: match for match in _ROW.finditer(_GLOSSARY)}
_MOST_TERMS = 45


def test_every_row_of_the_glossary_is_read() -> None:
    rows = [line for line in _GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| term")]
    assert len(_ROWS) == len(rows)
    assert len(_ROWS) <= _MOST_TERMS


@pytest.mark.parametrize("term", _ROWS)
def test_a_term_is_defined_where_the_glossary_says(term: str) -> None:
    row = _ROWS[term]
    assert hasattr(importlib.import_module(row["module"]), row["name"])


@pytest.mark.parametrize("term", _ROWS)
def test_a_term_is_explained_in_one_or_two_sentences(term: str) -> None:
    assert 1 <= len(re.findall(r"[.;](?:\s|$)", _ROWS[term]["meaning"])) <= 2
