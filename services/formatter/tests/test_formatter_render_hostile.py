"""Texts made to hurt: rendering takes linear time, needs no deep stack and loses no words.

Time is told by counting, not by a clock: function calls at n and at 2n. Twice the text may take 2.6 times the calls.
"""

from __future__ import annotations

import sys
import time
from types import FrameType

import pytest

from eai_formatter.rendering import PLAIN_TEXT, TELEGRAM, WHATSAPP, format_reply, render
from eai_formatter.rendering.reply import LONGEST_MARKDOWN
from eai_formatter.rendering.splitting import size

EMPHASIS = ["*a ", "*a*", "_a", "**a ", "**a: **b ", "a**b", "~~a ", "~a", "***a*** ", "\\*a\\* ", "(*) ", "_*a*_ "]
LINKS = [
    "[",
    "[a]",
    "![",
    "[a](",
    "[a](b) ",
    "](",
    "[^a]",
    "^[",
    "^[a]",
    "[^a]: x\n",
    "[^a]:",
    "[a]: http://x\n",
    "[a][",
]
URLS = ["http://a_b", "http://a" + ")" * 50 + " ", "://", "a@b ", "@"]
CODE = ["`", "`a ", "` `` ``` ", "```a\n\n", "\\", "*_~`[<&\\"]
HTML = ["<", "<a ", "<a href='", "<a href=x>", "<b>", "<b><i>x</b></i>", "<td></td><p>", "<code>x", "&", "&a"]
BLOCKS = ["> ", ">", "> a\n", "- ", "- a\n", "1. ", "1. a\n", "* x\n", "# a\n", "a\n===\n", "---\n", "  - a\n"]
TABLES = ["|", "|a|b|\n", "|a|\n|-|\n", "a|b\n-|-\n"]
PLAIN = ["a\n", " \n", "\t", "e\u0301", "\u0301", "👩‍👩‍👧 "]
UNITS = [*EMPHASIS, *LINKS, *URLS, *CODE, *HTML, *BLOCKS, *TABLES, *PLAIN]


def calls(text: str) -> int:
    """How many functions Python enters to format a text, those written in C included."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        format_reply(text, limit=1000)
    finally:
        sys.setprofile(None)
    return count


def filled(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_twice_the_text_is_at_most_twice_the_work(unit: str) -> None:
    once, twice = calls(filled(unit, 4000)), calls(filled(unit, 8000))
    assert twice < 2.6 * once + 1000


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_nothing_hostile_takes_long_or_makes_too_long_a_piece(unit: str) -> None:
    started = time.process_time()
    pieces = format_reply(filled(unit, 20_000)).contents
    assert time.process_time() - started < 5  # what is quadratic in C shows here: a hundred times this was seen
    assert all(size(piece) <= 4096 for piece in pieces)


@pytest.mark.parametrize("text", ["*" * 10_000_000, "a" + "*" * 10_000_000], ids=["alone", "after a letter"])
def test_ten_megabytes_of_stars_come_back_as_they_are(text: str) -> None:
    assert render(text) == text


def test_ten_megabytes_of_stars_are_cut_into_pieces() -> None:
    pieces = format_reply("*" * 10_000_000).contents
    assert (sum(map(len, pieces)), max(map(len, pieces)) <= 4096) == (10_000_000, True)


def test_a_text_too_long_to_be_a_reply_is_plain_text() -> None:
    text = "**Aviso** " + "palavra " * (LONGEST_MARKDOWN // 9)
    assert render(text).startswith("*Aviso* palavra")
    assert render(text * 2).startswith("**Aviso")


@pytest.mark.parametrize("profile", [WHATSAPP, PLAIN_TEXT, TELEGRAM], ids=lambda profile: str(profile.name))
@pytest.mark.parametrize("opener", ["> ", ">", "- ", "1. ", "* ", "[^a]: ", "> - "])
def test_five_thousand_levels_keep_the_word_inside(opener: str, profile: object) -> None:
    chosen = next(each for each in (WHATSAPP, PLAIN_TEXT, TELEGRAM) if each is profile)
    assert "palavra" in render(opener * 5000 + "palavra", chosen)


def test_five_thousand_levels_of_lists_by_indentation() -> None:
    text = "\n".join(f"{' ' * 2 * level}- palavra{level}" for level in range(600))
    assert all(f"palavra{level}" in render(text) for level in (0, 100, 599))


@pytest.mark.parametrize("pair", ["[]", "()", "**", "__", "~~", "<>"])
def test_five_thousand_brackets_keep_the_word_inside(pair: str) -> None:
    assert "palavra" in render(pair[0] * 5000 + "palavra" + pair[1] * 5000)


def test_a_table_of_sixty_rows_keeps_every_row() -> None:
    rows = [f"| Unidade {row} | Rua Afonso Cavalcanti, {row} – Cidade Nova | (21) 3460-{row:04} |" for row in range(60)]
    contents = format_reply("\n".join(["| Unidade | Endereço | Telefone |", "|---|---|---|", *rows])).contents
    assert sum(piece.count("*Telefone:*") for piece in contents) == 60
    assert all(piece.startswith("*Unidade:*") for piece in contents)


def test_an_answer_of_twenty_thousand_characters_is_five_or_six_pieces() -> None:
    answer = "\n\n".join(f"## Passo {step}\n\n{'Leve o **RG** e o *CPF* originais. ' * 12}" for step in range(46))
    assert 18_000 < len(answer) < 22_000
    assert len(format_reply(answer).contents) in (5, 6)
