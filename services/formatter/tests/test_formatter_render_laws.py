"""What holds for every text: the laws of rendering and splitting, on Markdown from a grammar and on random characters.

2,000 examples in all; `EAI_RENDER_EXAMPLES=50` multiplies them (50 makes 100,000).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eai_formatter.rendering import PLAIN_TEXT, TELEGRAM, WHATSAPP, Profile, format_reply, render, split
from eai_formatter.rendering.splitting import cut, size
from eai_formatter.rendering.testing import Shown, show

_TIMES = int(os.environ.get("EAI_RENDER_EXAMPLES", "1"))


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings for one law: its share of the examples."""
    return settings(
        max_examples=count * _TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


# The grammar. A document is drawn as a tree; writing it out notes what a reader must find in the result.


@dataclass
class Script:
    """A document being written: its Markdown, and what must be found again."""

    words: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    styles: tuple[str, ...] = ()
    is_styled_surely: bool = True  # off where a table may drop styles

    def word(self, stem: str) -> str:
        word = f"{stem}{len(self.words)}x"
        self.words.append((word, frozenset(self.styles) if self.is_styled_surely else frozenset({"any"})))
        return word

    def url(self, path: str) -> str:
        url = f"https://rio{len(self.urls)}.br/{path}"
        self.urls.append(url)
        return url


Inline = Callable[[Script], str]
Block = Callable[[Script], list[str]]

STEMS = st.sampled_from(["rua", "IPTU", "água", "ônibus", "Vacina", "lê", "é", "nº", "çã"])
PATHS = st.from_regex(r"\A[a-z0-9]{1,4}([_/*~-][a-z0-9]{1,3}){0,3}(\?a_b=[0-9]&c=[a-z])?\Z")
LITERALS = st.sampled_from(
    [
        "2 * 3 * 4 = 24",
        "5*3*2",
        "snake_case_aqui",
        "R$ 10,00*",
        "+55 21 3460-1746",
        "\\*x\\*",
        "\\_y\\_",
        "(*)",
        "*.pdf",
        "a_b",
        "<CPF>",
        "&lt;b&gt;",
        "10%*",
        "__init__.py",
        "~10 km",
        "3 ** 2",
        "2**3",
        "é",
        "👩\u200d👩\u200d👧",
        "[Nota]: prazo",
        "R&amp;D",
        "/_a_/",
        "C:\\_x_",
        "\\`z\\`",
        "1 < 2",
        "a > b",
        "!",
        "*",
        "_",
        "_ _",
        "[x]",
        "[x](",
        "](",
        "#1",
        "|",
        "nº 5",
        "*~_",
        "e_",
        "**",
        "1. a",
        "- b",
        "~",
        "\\",
        "***.456.789-**",
        "__/__/__",
    ]
)


def word(stem: str) -> Inline:
    return lambda script: script.word(stem)


def literal(text: str) -> Inline:
    return lambda script: text


def code(text: str) -> Inline:
    def write(script: Script) -> str:
        script.codes.append(text)
        fence = "``" if "`" in text else "`"
        return f"{fence}{text}{fence}"

    return write


def styled(style: str, marker: str, parts: list[Inline]) -> Inline:
    def write(script: Script) -> str:
        outer, script.styles = script.styles, (*script.styles, style)
        text = " ".join(part(script) for part in parts)
        script.styles = outer
        closing = marker.replace("<", "</")
        return f"{marker}{text}{closing}"

    return write


def link(parts: list[Inline], path: str) -> Inline:
    return lambda script: f"[{' '.join(part(script) for part in parts)}]({script.url(path)})"


def bare_url(path: str, form: str) -> Inline:
    return lambda script: form.format(script.url(path))


def image(stem: str, path: str) -> Inline:
    return lambda script: f"![{script.word(stem)}]({script.url(path)})"


def note(stem: str) -> Inline:
    def write(script: Script) -> str:
        label = f"n{len(script.notes)}"
        outer, script.styles = script.styles, ()
        script.notes.append(f"[^{label}]: {script.word(stem)}")
        script.styles = outer
        return f"[^{label}]"

    return write


CODES = st.text("abxy=*_~ \"'<&é", min_size=1, max_size=8).map(lambda text: f"c{text}d") | st.just("x`y")
LEAVES = st.one_of(
    STEMS.map(word),
    STEMS.map(word),
    STEMS.map(word),
    LITERALS.map(literal),
    CODES.map(code),
    st.builds(bare_url, PATHS, st.sampled_from(["{}", "<{}>", "({})", "{}."])),
    st.builds(image, STEMS, PATHS),
    st.builds(note, STEMS),
)
WORDS = st.lists(STEMS.map(word), min_size=1, max_size=3)


def between_words(parts: st.SearchStrategy[list[Inline]]) -> st.SearchStrategy[list[Inline]]:
    """Parts that begin and end with a word, as what is set in a style does."""
    return st.builds(lambda first, middle, last: [word(first), *middle, word(last)], STEMS, parts, STEMS)


def grow(inner: st.SearchStrategy[Inline]) -> st.SearchStrategy[Inline]:
    parts = between_words(st.lists(inner, max_size=2))
    return st.one_of(
        st.builds(styled, st.just("bold"), st.sampled_from(["**", "<b>", "<strong>"]), parts),
        st.builds(styled, st.just("italic"), st.sampled_from(["_", "<i>"]), parts),
        st.builds(styled, st.just("strike"), st.sampled_from(["~~", "<del>"]), parts),
        st.builds(link, WORDS, PATHS),
    )


#: Without stray markers, so that what is styled can be foretold.
QUIET = st.one_of(
    STEMS.map(word), STEMS.map(word), CODES.map(code), st.builds(bare_url, PATHS, st.sampled_from(["{}", "<{}>"]))
)
CLEAN_INLINES = st.recursive(QUIET, grow, max_leaves=3)
INLINES = st.recursive(LEAVES, grow, max_leaves=3)


def text_lines(inlines: st.SearchStrategy[Inline]) -> st.SearchStrategy[Block]:
    lines = st.lists(
        st.lists(inlines, max_size=4).flatmap(lambda rest: STEMS.map(lambda s: [word(s), *rest])),
        min_size=1,
        max_size=3,
    )
    return lines.map(lambda all_: lambda script: [" ".join(part(script) for part in line) for line in all_])


def heading(level: int, parts: list[Inline]) -> Block:
    return lambda script: [styled("bold", "", parts)(script).join(["#" * level + " ", ""])]


def items(marks: list[str], blocks: list[Block]) -> Block:
    def write(script: Script) -> list[str]:
        lines: list[str] = []
        for number, block in enumerate(blocks):
            mark = marks[number % len(marks)]
            first, *rest = block(script)
            lines += [f"{mark}{first}", *(" " * len(mark) + line if line else "" for line in rest)]
        return lines

    return write


def quote(blocks: list[Block]) -> Block:
    return lambda script: [f"> {line}" if line else ">" for line in _separated(script, blocks)]


def fence(lines: list[str]) -> Block:
    def write(script: Script) -> list[str]:
        script.codes.append("\n".join(lines))
        return ["```texto", *lines, "```"]

    return write


def table(rows: list[list[Inline]]) -> Block:
    def write(script: Script) -> list[str]:
        outer, script.is_styled_surely = script.is_styled_surely, False
        cells = [[part(script).replace("|", "") for part in row] for row in rows]
        script.is_styled_surely = outer
        head, *body = (f"| {' | '.join(row)} |" for row in cells)
        return [head, "|" + "---|" * len(rows[0]), *body]

    return write


def rule(script: Script) -> list[str]:
    return ["---"]


def _separated(script: Script, blocks: list[Block]) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block(script)] if lines else block(script)
    return lines


def block_trees(inlines: st.SearchStrategy[Inline]) -> st.SearchStrategy[Block]:
    code_lines = st.lists(st.text("abc *_~|<&#>-1.", max_size=10).map(lambda text: f"k{text}"), min_size=1, max_size=4)
    cells = st.one_of(
        STEMS.map(word), st.builds(link, WORDS, PATHS), st.builds(styled, st.just("bold"), st.just("**"), WORDS)
    )
    leaves = st.one_of(
        text_lines(inlines),
        text_lines(inlines),
        st.builds(heading, st.integers(1, 6), between_words(st.lists(inlines, max_size=2))),
        code_lines.map(fence),
        st.lists(st.lists(cells, min_size=1, max_size=5), min_size=1, max_size=4).map(table),
        st.just(rule),
    )

    def nest(inner: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
        marks = st.sampled_from([["- "], ["* "], ["1. ", "2. "], ["1. "], ["- [ ] ", "- [x] "], ["7) "]])
        paragraphs = st.lists(st.one_of(text_lines(inlines), inner), min_size=1, max_size=3)
        bodies = st.builds(lambda first, rest: _chain([first, *rest]), text_lines(inlines), st.lists(inner, max_size=1))
        return st.one_of(st.builds(items, marks, st.lists(bodies, min_size=1, max_size=3)), paragraphs.map(quote))

    return st.recursive(leaves, nest, max_leaves=3)


def _chain(blocks: list[Block]) -> Block:
    return lambda script: _separated(script, blocks)


def documents(inlines: st.SearchStrategy[Inline]) -> st.SearchStrategy[tuple[str, Script]]:
    def write(blocks: list[Block]) -> tuple[str, Script]:
        script = Script()
        lines = _separated(script, blocks)
        for definition in script.notes:
            lines += ["", definition]
        return "\n".join(lines), script

    return st.lists(block_trees(inlines), min_size=1, max_size=3).map(write)


DOCUMENTS = documents(INLINES)
#: Nothing that means a style, and every way to look as if: arithmetic, notes, escapes, names.
LITERAL_DOCUMENTS = documents(
    st.one_of(STEMS.map(word), LITERALS.filter(lambda text: text != "*~_").map(literal), QUIET)
)
CLEAN_DOCUMENTS = documents(CLEAN_INLINES)
NOISE = st.text(st.sampled_from("*_~`[]()<>!#|-+.:&\\/\n \t01aé=^\"'x\u0301👍🏽"), max_size=120) | st.text(max_size=80)


# Rendering


@given(DOCUMENTS)
@examples(300)
def test_every_word_url_and_code_survives_verbatim(document: tuple[str, Script]) -> None:
    markdown, script = document
    message = render(markdown)
    shown = message.replace("\u200a", "")
    assert [word for word, _ in script.words if not re.search(rf"(?<!\w){word}(?!\w)", shown.replace("_", " "))] == []
    assert [url for url in script.urls if url not in message] == []
    assert [code for code in script.codes if code not in message] == []


@given(CLEAN_DOCUMENTS)
@examples(250)
def test_every_word_is_shown_in_the_style_it_was_written_in(document: tuple[str, Script]) -> None:
    markdown, script = document
    assert Screen(show(render(markdown))).otherwise_styled(script) == []


@dataclass
class Screen:
    """Messages as a phone shows them, to look words up in."""

    shown: list[Shown]
    text: str = ""

    def __post_init__(self) -> None:
        self.text = "".join(char.char for char in self.shown)

    def styles_of(self, word: str) -> frozenset[str]:
        at = re.search(rf"(?<![^\W_]){word}(?![^\W_])", self.text)
        assert at is not None, (word, self.text)
        return frozenset().union(*(char.styles for char in self.shown[at.start() : at.end()]))

    def otherwise_styled(self, script: Script) -> list[tuple[str, frozenset[str], frozenset[str]]]:
        """The words that are not shown as they were written: which, how written, how shown."""
        words = [(word, styles) for word, styles in script.words if "any" not in styles]
        found = [(word, styles, self.styles_of(word)) for word, styles in words]
        return [case for case in found if case[1] != case[2]]


@given(LITERAL_DOCUMENTS)
@examples(200)
def test_no_word_is_styled_by_accident(document: tuple[str, Script]) -> None:
    markdown, script = document
    shown = [Shown(char.char, char.styles - {"code"}) for char in show(render(markdown))]  # lone backticks pair up
    assert Screen(shown).otherwise_styled(script) == []


@given(st.lists(NOISE, max_size=4).map("\n".join))
@examples(450)
def test_rendering_never_raises(text: str) -> None:
    for profile in (WHATSAPP, PLAIN_TEXT, TELEGRAM):
        assert isinstance(render(text, profile), str)
        assert isinstance(format_reply(text, profile=profile, limit=80).content, str)


PLAIN_WORDS = ["10", "R$ 5,00", "(21) 3460-1746", "–", "às 8h", "é.", "100%", "à vista!", "#1", "R. X"]
PLAIN_LINES = st.lists(st.lists(STEMS | st.sampled_from(PLAIN_WORDS), min_size=1).map(" ".join), min_size=1, max_size=5)


@given(PLAIN_LINES)
@examples(200)
def test_plain_text_passes_unharmed(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert render(text) == text
    assert render(text, PLAIN_TEXT) == text


@given(documents(STEMS.map(word)))
@examples(150)
def test_rendering_its_own_output_changes_nothing_where_that_is_plain(document: tuple[str, Script]) -> None:
    message = render(document[0])
    # A list after one of these may join it, and so may a second one that counts from 1.
    joinable = re.search(r"[*_~`]|^(7|>)|[☐☑]", message, re.MULTILINE)
    if joinable is None and len(re.findall(r"^ *1\. ", message, re.MULTILINE)) < 2:
        assert render(message) == message


NATIVE_PARTS = st.sampled_from(
    [
        "*Prazo:* 5 dias",
        "_aviso_",
        "~velho~",
        "- RG",
        "> nota",
        "_*urgente*_",
        "`x`",
        "texto *forte* fim",
        "Olá!",
        "2 * 3",
    ]
)


@given(st.lists(NATIVE_PARTS, max_size=5))
@examples(150)
def test_text_in_whatsapps_own_syntax_passes_unharmed(parts: list[str]) -> None:
    text = "\n".join(["*Prefeitura do Rio*", "_Atendimento_", *parts])
    assert render(text) == text


TELEGRAM_ENTITY = regex.compile(
    r"```[^\n]*\n(?:[^`\\]|\\.)*```|`(?:[^`\\\n]|\\.)+`|\]\((?:[^)\\\n]|\\.)*\)|\\.|^>", regex.MULTILINE
)


@given(DOCUMENTS)
@examples(75)
def test_telegram_gets_no_reserved_character_unescaped(document: tuple[str, Script]) -> None:
    rest = TELEGRAM_ENTITY.sub("", render(document[0], TELEGRAM))
    assert regex.findall(r"[\]()>#+\-=|{}.!`\\]", rest) == []
    for line in rest.split("\n"):
        assert all(line.count(marker) % 2 == 0 for marker in "*_~")


# Splitting

LIMITS = st.integers(64, 300)


@given(DOCUMENTS, LIMITS)
@examples(125)
def test_pieces_keep_the_limit_and_joined_are_the_whole(document: tuple[str, Script], limit: int) -> None:
    message = render(document[0])
    pieces = cut(message, limit)
    assert "".join(piece.own for piece in pieces) == message
    assert [piece.text for piece in pieces if size(piece.text) > limit or not piece.text.strip()] == []
    formatted = format_reply(document[0], limit=limit)
    assert "".join(formatted.contents) == formatted.content


@given(CLEAN_DOCUMENTS, st.integers(64, 300))
@examples(50)
def test_a_word_keeps_its_style_across_pieces(document: tuple[str, Script], limit: int) -> None:
    markdown, script = document
    pieces = format_reply(markdown, limit=limit).contents
    assert Screen([char for piece in pieces for char in show(piece)]).otherwise_styled(script) == []


@given(DOCUMENTS, st.integers(80, 300), st.sampled_from([WHATSAPP, PLAIN_TEXT, TELEGRAM]))
@examples(50)
def test_no_cut_goes_through_a_url_a_code_line_or_a_grapheme(
    document: tuple[str, Script], limit: int, profile: Profile
) -> None:
    message = render(document[0], profile)
    pieces = cut(message, limit, profile=profile)
    borders = {found.end() for found in regex.finditer(r"\X", message)}
    at = 0
    for piece in pieces:
        at += len(piece.own)
        assert at in borders
    texts = [piece.text for piece in pieces]
    if profile is not TELEGRAM:  # there, they are escaped
        assert [url for url in document[1].urls if not any(url in text for text in texts)] == []
    if profile is WHATSAPP:  # in plain text nothing tells code from words
        lines = [line for code in document[1].codes for line in code.split("\n")]
        assert [line for line in lines if not any(line in text for text in texts)] == []


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200a"])
def test_an_empty_text_has_no_pieces(text: str) -> None:
    assert split(text) == []
