"""WhatsApp's syntax: `*bold*`, `_italic_`, `~strike~`, code in backticks, `> ` quotes.

Sources for what WhatsApp shows:
- its help page "How to format your messages": the markers, lists (`- `, `* `, `1. `), quotes (`> `), code with one
  backtick or three;
- the bridge mautrix-whatsapp, which reads messages as the apps do: a marker opens at the start of a line, after a space
  or after another marker, and closes before anything but a letter or digit; a style ends with its line, a code block
  does not.

The apps differ in details. The output uses only what all apps agree on: markers at word borders, no space inside them,
balanced on each line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from eai_formatter.rendering.markers import fit, mark
from eai_formatter.rendering.runs import CODE, EM, STRIKE, STRONG, STYLES, VERBATIM, Line, text_of
from eai_formatter.rendering.syntax import Syntax

__all__ = ["WHATSAPP", "WhatsApp"]

_MARKERS = {STRONG: "*", EM: "_", STRIKE: "~"}
_MARKER_ROW = re.compile(r"([*_~`])\1*")
_LITERAL_MARKER = re.compile(r"[*_~`]")
HAIR_SPACE = "\u200a"
"""Goes beside a literal marker that would start or end a style: a marker next to a space has no effect.

It is the thinnest space. Most programs do not treat zero-width characters as spaces, so those would not help."""
_ATOMS = re.compile(r"```[^\n]+?```|`[^`\n]+`|(?:https?|ftp)://[^\s<>]+|(?<!\S)[\w.+-]{1,64}@\S+")
_SYNTAX = Syntax(markers="*_~", code="`", fence="```", quote="> ", atoms=_ATOMS, is_at_word_borders=True)


@dataclass(frozen=True, slots=True)
class WhatsApp:
    """The adapter for WhatsApp."""

    name: str = "whatsapp"
    links_inline: bool = False
    table_width: int = 32  # a monospace line on a narrow phone
    syntax: Syntax = _SYNTAX
    quote: str = "> "

    def line(self, runs: Line) -> str:
        """One line. Literal markers in its text style nothing."""
        if len(runs) == 1 and not runs[0][0]:
            text = runs[0][1]
            return _guard([(0, text)]) if _LITERAL_MARKER.search(text) or text.startswith("> ") else text
        if any(flags & STYLES and _LITERAL_MARKER.search(text) for flags, text in runs):
            for style, marker in _MARKERS.items():
                runs = _literals_outside(runs, style, marker)
        marked = mark(fit(runs, at_word_borders=True), _MARKERS)
        if any(flags >= 0 and not flags & VERBATIM and _LITERAL_MARKER.search(text) for flags, text in marked):
            return _guard(marked)
        text = "".join(text for _, text in marked)
        return HAIR_SPACE + text if text.startswith("> ") else text

    def prefix(self, text: str) -> str:
        """Unchanged."""
        return text

    def url(self, url: str) -> str:
        """Unchanged: any added character would break the URL."""
        return url

    def target(self, url: str) -> str:
        """Unchanged; not used, because WhatsApp has no link syntax."""
        return url

    def code(self, code: str, markup: str) -> str:
        """In one backtick; in three if Markdown had three or the code has a backtick; bare if the code has three."""
        if "```" in code or not code.strip() or code[0] == "`" or code[-1] == "`":
            return code
        return f"```{code}```" if "`" in code or len(markup) > 2 else f"`{code}`"

    def code_block(self, code: str, info: str) -> list[str]:
        """Between lines of three backticks, without the language: it would show as code. Bare if the code has three."""
        lines = code.split("\n")
        return lines if "```" in code else ["```", *lines, "```"]


def _literals_outside(runs: Line, style: int, marker: str) -> Line:
    """The runs with a literal marker at the edge of its own style (`**R$ 10,00\\***`) moved out, after a space.

    Two adjacent markers are a row, and the outer marker of a row neither opens nor closes.
    """
    result: Line = []
    for is_styled, stretch in groupby(runs, key=lambda run: bool(run[0] & style and not run[0] & VERBATIM)):
        inner = list(stretch)
        text = text_of(inner)
        core = _without_edges(text, marker)
        if is_styled and core and core != text:
            before, inner = _cut(inner, text.index(core))
            inner, after = _cut(inner, len(core))
            inner = [*_apart(before, -1, style), *inner, *_apart(after, 0, style)]
        result += inner
    return result


def _without_edges(text: str, marker: str) -> str:
    """The text without its outer markers and the spaces around them."""
    if text.lstrip().startswith(marker):
        text = text.lstrip().lstrip(marker).lstrip()
    if text.rstrip().endswith(marker):
        text = text.rstrip().rstrip(marker).rstrip()
    return text


def _cut(runs: Line, at: int) -> tuple[Line, Line]:
    """The runs before and after a position in their text."""
    before: Line = []
    for number, (flags, text) in enumerate(runs):
        if at < len(text):
            return [*before, (flags, text[:at])], [(flags, text[at:]), *runs[number + 1 :]]
        before.append((flags, text))
        at -= len(text)
    return before, []


def _apart(runs: Line, edge: int, style: int) -> Line:
    """The runs without the style, with a space on the side of their first (0) or last (-1) character."""
    plain = [(flags & ~style, text) for flags, text in runs if text]
    if plain and not plain[edge][1][edge].isspace():
        plain.insert(0 if edge == 0 else len(plain), (plain[edge][0], HAIR_SPACE))
    return plain


def _guard(marked: Line) -> str:
    """The line with a hair space beside every literal marker that would open or close a style.

    One pass for each marker character. A literal gets a space if it could close a style that is open before it, or if
    it could open a style that one of the renderer's own markers would close.
    """
    text = "".join(part for _, part in marked)
    literal, ours = _marker_positions(marked)
    gaps: set[int] = set()  # positions that get a hair space before them
    for marker in {text[at] for at in literal}:
        own = {at for at in ours if text[at] == marker}
        _separate(text, marker, [at for at in literal if text[at] == marker], own, gaps)
    for at in literal:
        if text.startswith("```", at):  # would open a code block that includes the lines below
            gaps.update(range(at + 2, at + _row_length(text, at), 2))
    if text.startswith("> ") and marked[0][0] >= 0:
        gaps.add(0)
    return _with_gaps(text, gaps) if gaps else text


def _row_length(text: str, at: int) -> int:
    row = _MARKER_ROW.match(text, at)
    return len(row.group()) if row else 0


def _marker_positions(marked: Line) -> tuple[list[int], list[int]]:
    """The positions of the marker characters: those of the text, and those that style or are in a URL.

    Of a row of one marker (`______`, `*****`) only the ends count: the inner ones neither open nor close.
    """
    literal: list[int] = []
    ours: list[int] = []
    at = 0
    for flags, part in marked:
        if flags != CODE:
            target = ours if flags < 0 or flags & VERBATIM else literal
            for row in _MARKER_ROW.finditer(part):
                target.append(at + row.start())
                if row.end() - row.start() > 1:
                    target.append(at + row.end() - 1)
        at += len(part)
    return literal, ours


def _separate(text: str, marker: str, literal: list[int], ours: set[int], gaps: set[int]) -> None:
    last_of_ours = max(ours, default=-1)
    is_open = False
    for at in sorted([*literal, *ours]):
        before = text[at - 1] if at and at not in gaps else " "
        after = text[at + 1] if at + 1 < len(text) else " "
        may_open = not (after.isspace() or after == marker or _is_ascii_word(before))
        may_close = not (before.isspace() or before == marker or _is_ascii_word(after))
        if at in ours:
            is_open = may_open and not (is_open and may_close)
            continue
        if may_close and is_open:
            gaps.add(at)
            may_open = not (after.isspace() or after == marker)
        if may_open and last_of_ours > at:
            gaps.add(at + 1)
            may_open = False
        is_open = is_open or may_open


def _is_ascii_word(char: str) -> bool:
    """Whether every program treats the character as a letter or digit: some recognise only those of ASCII."""
    return char.isascii() and char.isalnum()


def _with_gaps(text: str, gaps: set[int]) -> str:
    parts: list[str] = []
    start = 0
    for gap in sorted(gaps):
        parts.append(text[start:gap])
        start = gap
    return HAIR_SPACE.join([*parts, text[start:]])


WHATSAPP = WhatsApp()
