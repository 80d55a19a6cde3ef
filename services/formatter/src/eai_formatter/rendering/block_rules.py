"""The block rules that differ from markdown-it-py's, and the order of all block rules.

Loosely written text keeps its meaning (each rule says how). No input loses words or takes more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, heading, hr, list_block, make_fence_rule, reference
from mdit_py_plugins.footnote.index import footnote_def

__all__ = ["install"]

Rule = Callable[[StateBlock, int, int, bool], bool]

_FENCE = make_fence_rule(disallow_marker_in_info=("`", "~"))  # `~~~texto~~~` is struck-out text, not a fence

DEEPEST = 18
"""The depth of nested containers. A deeper one stays as text; markdown-it-py's own limit would drop its text."""

_INTERRUPTS_PARAGRAPH = ["paragraph", "reference"]
_INTERRUPTS_ANYTHING = ["paragraph", "reference", "blockquote", "list"]


def install(reader: MarkdownIt) -> None:
    """Install the rules in the order in which the reader tries them."""
    ruler = reader.block.ruler
    ruler.at("table", table, {"alt": _INTERRUPTS_PARAGRAPH})
    ruler.at("fence", _FENCE, {"alt": _INTERRUPTS_ANYTHING})
    ruler.at("blockquote", quote, {"alt": _INTERRUPTS_ANYTHING})
    ruler.at("hr", hr, {"alt": _INTERRUPTS_ANYTHING})
    ruler.at("list", list_, {"alt": ["paragraph", "reference", "blockquote"]})
    ruler.before("reference", "footnote_def", footnote, {"alt": _INTERRUPTS_PARAGRAPH})
    ruler.at("reference", definition)
    ruler.at("heading", heading, {"alt": ["paragraph", "reference", "blockquote"]})
    ruler.at("lheading", underlined_heading)
    ruler.at("paragraph", paragraph)
    ruler.enableOnly(
        ["table", "fence", "blockquote", "hr", "list", "footnote_def", "reference", "heading", "lheading", "paragraph"]
    )


def _line(state: StateBlock, line: int) -> str:
    """A line of the source without the indentation and the container marks before it."""
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _first(state: StateBlock, line: int) -> str:
    """A line's first character, or "" if it is empty."""
    at = state.bMarks[line] + state.tShift[line]
    return state.src[at] if at < state.eMarks[line] else ""


_STARTERS = frozenset("#>-+*_~`[0123456789|")


def paragraph(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Text up to an empty line or another block.

    Faster than the original, because a line that begins with a letter can only be the head of a table. Unlike there, a
    line indented by four or more may start a list: models indent sub-items freely.
    """
    terminators = state.md.block.ruler.getRules("paragraph")
    outer, state.parentType = state.parentType, "paragraph"
    line, last = start + 1, state.lineMax
    while line < last and not state.isEmpty(line):
        is_lazy = state.sCount[line] < 0
        if not is_lazy and _may_start_block(state, line) and any(rule(state, line, last, True) for rule in terminators):
            break
        line += 1
    state.line = line
    _push_text(state, "paragraph", start, state.getLines(start, line, state.blkIndent, False), end=line)
    state.parentType = outer
    return True


def _may_start_block(state: StateBlock, line: int) -> bool:
    if _first(state, line) in _STARTERS:
        return True
    return line + 1 < state.lineMax and _first(state, line + 1) in ("|", "-", ":")


def _push_text(state: StateBlock, kind: str, start: int, content: str, *, end: int) -> None:
    state.push(f"{kind}_open", "", 1).map = [start, end]
    inline = state.push("inline", "", 0)
    inline.content = content.strip(" \t\n")
    inline.map = [start, end]
    inline.children = []
    state.push(f"{kind}_close", "", -1)


_UNDERLINE = re.compile(r"={3,}[ \t]*$")


def underlined_heading(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A line over `===` is a heading. A line over `---` is a line and a rule, which models nearly always mean."""
    if silent or start + 1 >= end or state.sCount[start + 1] < state.blkIndent or _first(state, start + 1) != "=":
        return False
    if not _UNDERLINE.match(_line(state, start + 1)):
        return False
    state.line = start + 2
    _push_text(state, "heading", start, _line(state, start), end=start + 2)
    return True


def quote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`> …` is a quote. `>60 anos` is a comparison, so it is text."""
    at = state.bMarks[start] + state.tShift[start]
    if state.src[at : at + 1] != ">" or state.src[at + 1 : at + 2].isdigit() or state.level >= DEEPEST:
        return False
    return blockquote(state, start, end, silent)


_PHONE = re.compile(r"\+[ \t]*\d")


def list_(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`- …`, `* …`, `+ …`, `1. …` and `1) …` are lists. `+ 55 21 …` is a phone number."""
    first = _first(state, start)
    if first not in _BULLETS or state.level >= DEEPEST:
        return False
    if first == "+" and _PHONE.match(state.src, state.bMarks[start] + state.tShift[start]):
        return False
    return list_block(state, start, end, silent)


_BULLETS = frozenset("-*+0123456789")

_DEFINITION = re.compile(
    r"\[(?!\^)(?:[^\[\]\\]|\\.){1,999}\]:[ \t]*<?(?:https?://|ftp://|www\.|mailto:|tel:|/|#)", re.IGNORECASE
)


def definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`[ref]: https://…` is a definition, but only with a link target: `[Nota]: prazo` is a note and stays as text.

    Keeps a `definition` token, so that a definition without a link can be shown: it may be the list of sources.
    """
    at = state.bMarks[start] + state.tShift[start]
    if silent or not _DEFINITION.match(state.src, at, state.eMarks[start]):
        return False
    known = len(state.env.get("references", {}))
    if not reference(state, start, end, silent):
        return False
    token = state.push("definition", "", 0)
    token.map = [start, state.line]
    token.content = "\n".join(_line(state, line) for line in range(start, state.line))
    references = state.env["references"]
    token.info = (
        next(reversed(references)) if len(references) > known else ""
    )  # "" is a second definition of a name: it stays as text
    return True


def footnote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`[^1]: …`."""
    if _first(state, start) != "[" or state.level >= DEEPEST:
        return False
    return footnote_def(state, start, end, silent)


_DELIMITER_ROW = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_CELL_END = re.compile(r"(?<!\\)\|")


def table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A GFM table, with two changes: a row longer than the head keeps its cells; a line without `|` ends the table.

    Tokens: `table_open`, with the alignments in `meta`; for each row `row_open`, one `inline` a cell, `row_close`;
    `table_close`.
    """
    if start + 2 > end or state.sCount[start + 1] < state.blkIndent or _first(state, start + 1) not in ("|", "-", ":"):
        return False
    rule = _line(state, start + 1)
    if "|" not in rule and "|" not in _line(state, start):
        return False
    if not _DELIMITER_ROW.match(rule):
        return False
    aligns = [_alignment(cell) for cell in _cells(rule)]
    head = _cells(_line(state, start))
    if "|" not in _line(state, start) or len(head) != len(aligns):
        return False
    if silent:
        return True
    opening = state.push("table_open", "", 1)
    opening.meta = {"aligns": aligns}
    _push_row(state, start, head)
    line = start + 2
    terminators = state.md.block.ruler.getRules("blockquote")
    outer, state.parentType = state.parentType, "table"
    while line < end and _is_row(state, line) and not any(rule_(state, line, end, True) for rule_ in terminators):
        _push_row(state, line, _cells(_line(state, line)))
        line += 1
    state.parentType = outer
    opening.map = [start, line]
    state.push("table_close", "", -1)
    state.line = line
    return True


def _is_row(state: StateBlock, line: int) -> bool:
    return state.sCount[line] >= state.blkIndent and "|" in _line(state, line)


def _cells(row: str) -> list[str]:
    cells = _CELL_END.split(row.strip(" \t"))
    if cells[0] == "":
        cells = cells[1:]
    if cells and cells[-1] == "":
        cells = cells[:-1]
    return [cell.strip(" \t").replace("\\|", "|") for cell in cells]


def _alignment(cell: str) -> str:
    if cell.endswith(":"):
        return "center" if cell.startswith(":") else "right"
    return "left"


def _push_row(state: StateBlock, line: int, cells: list[str]) -> None:
    state.push("row_open", "", 1).map = [line, line + 1]
    for cell in cells:
        inline = state.push("inline", "", 0)
        inline.content = cell
        inline.map = [line, line + 1]
        inline.children = []
    state.push("row_close", "", -1)
