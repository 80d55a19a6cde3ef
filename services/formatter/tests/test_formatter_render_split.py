"""Where a long reply is cut, case by case. The laws of splitting are with the other laws."""

from __future__ import annotations

import pytest

from eai_formatter.rendering import LIMIT, PLAIN_TEXT, TELEGRAM, format_reply, render, split
from eai_formatter.rendering.splitting import SHORTEST_LIMIT, cut, size

SENTENCE = "O posto de saúde atende de segunda a sexta, das 8h às 17h. "


def paragraph(sentences: int) -> str:
    return (SENTENCE * sentences).strip()


def test_a_short_text_is_one_piece() -> None:
    assert split("Olá!") == ["Olá!"]


def test_a_text_of_exactly_the_limit_is_one_piece() -> None:
    assert len(split("a" * LIMIT)) == 1
    assert [len(piece) for piece in split("a" * (LIMIT + 1))] == [LIMIT - 9, 10]


def test_a_text_of_paragraphs_is_cut_between_them() -> None:
    text = "\n\n".join(paragraph(20) for _ in range(8))
    pieces = split(text)
    assert all(piece.rstrip() == "\n\n".join([paragraph(20)] * (len(piece) // 1179)) for piece in pieces)
    assert "".join(pieces) == text


def test_lines_are_kept_whole_where_a_paragraph_does_not_fit() -> None:
    lines = [f"Linha {number}: Grajaú × Cosme Velho, a cada 10 minutos" for number in range(200)]
    pieces = split("\n".join(lines))
    assert [line for piece in pieces for line in piece.split("\n") if line] == lines


def test_a_long_line_is_cut_after_a_sentence() -> None:
    pieces = split(paragraph(200))
    assert all(piece.rstrip().endswith("17h.") for piece in pieces)


def test_an_abbreviation_ends_no_sentence() -> None:
    text = "O posto fica na Av. Brasil com a R. Bela, perto do Dr. Silva e da Sra. Lima. " * 100
    assert all(piece.rstrip().endswith("Lima.") for piece in split(text.strip(), 1000))


def test_a_text_without_sentences_is_cut_between_words() -> None:
    pieces = split("inscrição imobiliária " * 400)
    assert {word for piece in pieces for word in piece.split()} == {"inscrição", "imobiliária"}


def test_an_emoji_is_not_cut() -> None:
    family = "👩‍👩‍👧"
    pieces = split(family * 1000)
    assert all(piece == family * (len(piece) // len(family)) for piece in pieces)


def test_an_emoji_counts_as_two() -> None:
    assert size("💉") == 2
    assert [size(piece) <= LIMIT for piece in split("💉" * 3000)] == [True, True]


def test_an_accent_written_as_two_characters_is_not_cut() -> None:
    pieces = split("e\u0301" * 3000)
    assert all(piece.startswith("e") and piece.endswith("\u0301") for piece in pieces)


def test_a_url_is_not_cut() -> None:
    url = "https://carioca.rio/" + "a" * 200
    pieces = split(f"{'palavra ' * 505}{url} fim")
    assert sum(url in piece for piece in pieces) == 1


def test_a_url_longer_than_a_piece_is_cut_all_the_same() -> None:
    url = "https://carioca.rio/" + "a" * 5000
    assert "".join(split(url)) == url


def test_bold_is_closed_and_opened_again() -> None:
    pieces = format_reply(f"**{paragraph(100)}**").contents
    assert [(piece[0], piece.rstrip()[-1]) for piece in pieces] == [("*", "*")] * len(pieces)


def test_nested_styles_are_closed_inside_out() -> None:
    first, second = cut(render(f"***{paragraph(100)}***"))
    assert (first.closed, second.opened) == ("*_", "_*")


def test_a_long_quoted_line_is_quoted_in_every_piece() -> None:
    assert all(piece.startswith("> ") for piece in format_reply(f"> {paragraph(100)}").contents)


def test_a_code_block_that_fits_is_not_cut() -> None:
    code = "\n".join(f"linha {number}" for number in range(100))
    pieces = format_reply(f"{paragraph(60)}\n\n```\n{code}\n```\n\n{paragraph(20)}").contents
    assert sum(f"```\n{code}\n```" in piece for piece in pieces) == 1


def test_a_code_block_that_does_not_fit_is_cut_between_its_lines() -> None:
    lines = [f"linha {number} do arquivo" for number in range(500)]
    pieces = format_reply("```\n" + "\n".join(lines) + "\n```").contents
    assert all(piece.startswith("```\n") and piece.rstrip("\n").endswith("\n```") for piece in pieces)
    assert [line for piece in pieces for line in piece.split("\n") if line not in ("", "```")] == lines


def test_inline_code_is_not_cut() -> None:
    pieces = format_reply(f"{'palavra ' * 508}`SELECT a FROM b WHERE c` fim").contents
    assert sum("`SELECT a FROM b WHERE c`" in piece for piece in pieces) == 1


def test_inline_code_longer_than_a_piece_is_code_in_every_piece() -> None:
    pieces = format_reply(f"`{'palavra ' * 1000}x`").contents
    assert all(piece.startswith("`") and piece.rstrip().endswith("`") for piece in pieces)


def test_a_heading_is_not_left_behind() -> None:
    markdown = f"{paragraph(30)}\n\n{paragraph(30)}\n\n## Documentos\n\n{paragraph(30)}"
    pieces = format_reply(markdown).contents
    assert [piece.startswith("*Documentos*") for piece in pieces] == [False, True]


def test_the_content_is_the_pieces_joined() -> None:
    formatted = format_reply(f"**{paragraph(100)}**\n\n{paragraph(100)}")
    assert formatted.content == "".join(formatted.contents)


def test_without_a_style_over_a_cut_the_content_is_the_rendered_text() -> None:
    markdown = "\n\n".join(f"**Posto {number}**\n{paragraph(10)}" for number in range(20))
    assert format_reply(markdown).content == render(markdown)


def test_an_empty_reply_has_no_pieces() -> None:
    assert format_reply(" \n ").contents == []


def test_white_space_longer_than_a_piece_makes_no_empty_piece() -> None:
    assert all(piece.strip() for piece in split("a" + " " * 10_000 + "b"))


def test_telegrams_escapes_and_links_are_not_cut() -> None:
    markdown = "[Carioca Digital](https://carioca.rio/iptu). " * 200
    pieces = format_reply(markdown, profile=TELEGRAM, limit=500).contents
    assert all(piece.count("[Carioca Digital](https://carioca.rio/iptu)") == piece.count("[") for piece in pieces)
    assert not any(piece.endswith("\\") for piece in pieces)


def test_plain_text_has_no_markers_to_open_again() -> None:
    pieces = format_reply(f"**{paragraph(100)}**", profile=PLAIN_TEXT).contents
    assert not any("*" in piece for piece in pieces)


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=f"takes {SHORTEST_LIMIT}"):
        split("Olá!", 10)
