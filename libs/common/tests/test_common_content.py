"""Which texts are refused, and above all which are not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.content import ContentRules

ORDINARY = [
    "once = 1",
    "onload=1 quer dizer o quê?",
    "SELECT * FROM users WHERE name = 'x' OR 1=1; DROP TABLE users; --",
    "I <3 Rio, 5 < 6 && 7 > 6",
    "if (a<b) { return a ? b : c; }  // a<script",
    "∀x∈ℝ: x²≥0, ∑ᵢ aᵢ ≤ ½",
    "linha 1\nlinha 2\r\n\tcom tab",
    "javascript é uma linguagem",
    "مرحبا \u200fبالعالم\u200e שלום \u2067עולם\u2069",
    "\u202d(21) 99999-0000\u202c",
    "👩‍👩‍👧‍👦 é\u0301 \u00a0 \ufeff \u0085",
    "../../etc/passwd && rm -rf / `id` ${7*7} {{7*7}}",
    "",
]
CODE = ["como uso <script>alert(1)</script>?", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))"]
SCRIPT = [
    *CODE,
    "< SCRIPT src=//evil.example>",
    "<a href='data:text/html,x'>",
    '<div\nonclick="x()">',
    "<svg/onload=x>",
    "<iframe src=x>",
    "vbscript:x",
]


@pytest.mark.parametrize("text", [*ORDINARY, *CODE])
def test_what_people_type_passes(text: str) -> None:
    ContentRules().check(text)


@pytest.mark.parametrize("text", ORDINARY[:4] + ORDINARY[5:])
def test_the_strict_rules_pass_what_is_not_html(text: str) -> None:
    ContentRules(is_strict=True).check(text)


@pytest.mark.parametrize("text", SCRIPT)
def test_the_strict_rules_refuse_what_a_browser_would_run(text: str) -> None:
    with pytest.raises(ValueError, match="has HTML that a browser would run"):
        ContentRules(is_strict=True).check(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Oi\x00", r"U\+0000"),
        ("\x1b[31mOi", r"U\+001B"),
        ("a\x08b", r"U\+0008"),
        ("\x7f", r"U\+007F"),
        ("\ud83d", "half of a surrogate pair"),
        ("x\u202e" * 21, "has 21 marks"),
    ],
    ids=ascii,
)
def test_what_no_person_types_is_refused_and_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ContentRules().check(text)


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u202d\u202e")))
def test_every_text_without_control_characters_passes(text: str) -> None:
    ContentRules().check(text)


@pytest.mark.parametrize(
    "value",
    [{"a": "\x00"}, {"\x00": 1}, [[["\x00"]]], {"a": [1, None, {"b": ["x", "\x00"]}]}],
    ids=repr,
)
def test_texts_are_found_wherever_they_are(value: Any) -> None:
    with pytest.raises(ValueError, match="control character"):
        ContentRules().check(value)


def test_json_that_is_nested_deeper_than_the_stack_is_looked_through() -> None:
    value: Any = "\x00"
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="control character"):
        ContentRules().check(value)


@pytest.mark.parametrize("text", ["<a " * 6000, "<" * 16_000, "<a" + " on" * 5000, "data:" * 3000 + " " * 5000])
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    ContentRules(is_strict=True).check(text)
    assert time.process_time() - began < 0.5
