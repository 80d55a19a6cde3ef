"""Writes the token stream as the lines of a message: blocks, their order and spacing. `inline` writes each line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from markdown_it.token import Token

from eai_formatter.rendering.inline import InlineReader, NoteBook
from eai_formatter.rendering.links import urls_apart
from eai_formatter.rendering.parser import Parsed
from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.runs import EM, STRONG, Line
from eai_formatter.rendering.tables import Table, lay_out, records

__all__ = ["write_blocks"]


@dataclass(slots=True)
class _List:
    """An open list: the marks of its items and the indentation of their text."""

    number: int | None  # of the next item; None for bullets
    bullet: str
    indent: int = 0  # columns of the items' text
    outer: int = 0  # columns of the items' marks


_NO_LIST = _List(None, "")


class _Writer:
    """Reads the tokens once, front to back. It keeps nesting on its own stacks, so it needs no recursion."""

    def __init__(self, parsed: Parsed, profile: Profile, star: int) -> None:
        self._tokens = parsed.tokens
        self._source = parsed.source
        self._profile = profile
        self._notes = NoteBook(parsed.inline_notes)
        self._inline = InlineReader(profile, self._notes, star)
        self._used = _used_names(parsed.tokens) if parsed.has_names else set()
        self._note_ranges: dict[str, list[tuple[int, int]]] = {}  # token ranges of the footnotes, by label
        self._lines: list[str] = []
        self._source_line = 0  # where the last block ended
        self._wants_gap = False  # a blank line before whatever comes next
        self._was_heading = False
        self._lists: list[_List] = []
        self._last_list_end = -1
        self._mark = ""  # of an item whose first line has not come
        self._quotes: list[int] = []  # for each open quote, how far the text around it is indented

    def write(self) -> str:
        """Write all tokens as one text."""
        self._write_range(0, len(self._tokens))
        self._write_notes()
        return "\n".join(self._lines).strip("\n")

    def _write_range(self, at: int, end: int) -> None:
        tokens = self._tokens
        while at < end:
            token = tokens[at]
            at = _WRITERS[token.type](self, token, at) or at + 1

    # Lines

    def _begin(self, token: Token, *, apart: bool = False) -> None:
        """Write the blank line before a block if the source has one, or if `apart` asks for one."""
        start, end = token.map or (self._source_line, self._source_line)
        if self._wants_gap or apart or start > self._source_line:
            self._gap()
        self._wants_gap = self._was_heading = False
        self._source_line = end

    def _gap(self) -> None:
        """Write a blank line unless it would be the first line or the second blank one."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def _leave_out(self, token: Token) -> None:
        """Skip a block that is not written here. The blocks around it stay separate."""
        if token.map:
            self._source_line = token.map[1]
        self._wants_gap = True

    def _put(self, text: str, *, at_margin: bool = False) -> None:
        """Write one line after the quote mark, the indentation and the item's mark.

        `at_margin` is for an unindented line below an item. CommonMark reads it as a wrapped line of the item, but
        people and models nearly always mean that the list has ended.
        """
        of = self._lists[-1] if self._lists and not at_margin else _NO_LIST
        indent = (of.outer if self._mark else of.indent) - (self._quotes[0] if self._quotes else 0)
        lead = " " * indent + self._mark
        self._mark = ""
        quote = self._profile.quote if self._quotes else ""
        self._lines.append(f"{quote}{lead}{text}" if text else f"{quote}{lead}".rstrip())

    def _put_lines(self, lines: list[Line], *, at_margin: bool = False) -> None:
        for line in lines:
            text = self._profile.line(line)
            if text and (text[-1].isspace() or text[0] == " "):
                text = text.rstrip() if line[0][1].isspace() else text.strip()
            if text:
                self._put(text, at_margin=at_margin)
            elif not self._mark:
                self._gap()

    def _put_verbatim(self, lines: list[str]) -> None:
        """Write lines of code or of a table at the margin: indentation or a quote mark would change them."""
        if self._mark:
            self._put("")
        self._lines += lines

    # Blocks

    def _paragraph(self, token: Token, at: int) -> int:
        inline = self._tokens[at + 1]
        self._begin(token)
        first, *others = self._inline.lines(inline.children or [])
        self._put_lines([first])
        start, end = token.map or (0, 0)
        is_lazy = bool(self._lists) and not self._quotes and end - start == 1 + len(others)
        for number, line in enumerate(others, start + 1):
            self._put_lines([line], at_margin=is_lazy and not self._source[number].startswith((" ", "\t")))
        return at + 3

    def _heading(self, token: Token, at: int) -> int:
        inline = self._tokens[at + 1]
        follows_heading = self._was_heading
        self._begin(token, apart=not follows_heading and not self._mark)
        self._put_lines(self._inline.lines(inline.children or [], STRONG))
        self._was_heading = True
        return at + 3

    def _code(self, token: Token, at: int) -> None:
        self._begin(token)
        code, info = token.content.removesuffix("\n"), token.info.strip()
        if info and (not code.strip() or len(info.split()) > 1):  # not a language but text on the wrong line
            code, info = f"{info}\n{code}".rstrip("\n"), ""
        if code.strip():
            self._put_verbatim(self._profile.code_block(code, info))

    def _rule(self, token: Token, at: int) -> None:
        self._begin(token)
        self._wants_gap = True

    def _definition(self, token: Token, at: int) -> None:
        if token.info in self._used:
            self._leave_out(token)
            return
        self._begin(token)
        for line in token.content.split("\n"):
            self._put(self._profile.line(urls_apart(line, self._profile)))

    def _table(self, token: Token, at: int) -> int:
        rows: list[list[Line]] = []
        at += 1
        while self._tokens[at].type != "table_close":
            if self._tokens[at].type == "row_open":
                rows.append([])
            elif self._tokens[at].type == "inline":
                rows[-1].append(self._cell(self._tokens[at]))
            at += 1
        table = Table(rows, token.meta["aligns"])
        monospace = lay_out(table, self._profile.table_width)
        if monospace is not None:
            self._begin(token)
            self._put_verbatim(self._profile.code_block(monospace, ""))
        else:
            self._begin(token, apart=not self._mark)
            self._put_rows(table)
            self._wants_gap = True
        return at + 1

    def _cell(self, token: Token) -> Line:
        cell, *more = self._inline.lines(token.children or [])
        for line in more:
            cell += [(0, " "), *line]
        return cell

    def _put_rows(self, table: Table) -> None:
        for number, record in enumerate(records(table)):
            if number:
                self._gap()
            for line in record:
                self._put(self._profile.line(line))

    # Containers

    def _open_quote(self, token: Token, at: int) -> None:
        self._quotes.append(self._lists[-1].indent if self._lists else 0)

    def _close_quote(self, token: Token, at: int) -> None:
        self._quotes.pop()
        if not self._quotes:
            self._wants_gap = True

    def _open_bullets(self, token: Token, at: int) -> None:
        self._open_list(token, None, "* " if token.markup == "*" and self._is_star_note(at) else "- ")

    def _is_star_note(self, at: int) -> bool:
        """Whether a list of one `* …` is the note that a star in the text above (`R$ 10,00*`) refers to."""
        if self._lists:
            return False
        level, end = self._tokens[at].level, at + 1
        while self._tokens[end].level != level + 1 or self._tokens[end].type != "list_item_close":
            end += 1
        return self._tokens[end + 1].nesting < 0 and self._has_note_stars

    @cached_property
    def _has_note_stars(self) -> bool:
        """Whether the text ends in an unpaired star. `*cópia*` does not."""
        return any(_STAR_NOTE.search(_plain(token.children)) for token in self._tokens if token.children)

    def _open_numbers(self, token: Token, at: int) -> None:
        self._open_list(token, int(token.attrs.get("start", 1)), "")

    def _open_list(self, token: Token, number: int | None, bullet: str) -> None:
        if self._mark:  # a list as the first thing in an item: `- - x`
            self._put("")
        outer = self._lists[-1].indent if self._lists else 0
        if not outer and token.map and token.map[0] == self._last_list_end:
            outer = _loose_indent(self._source[token.map[0]])
        self._lists.append(_List(number, bullet, outer=outer))

    def _close_list(self, token: Token, at: int) -> None:
        closed = self._lists.pop()
        if not self._lists and not closed.outer:
            self._last_list_end = self._source_line

    def _open_item(self, token: Token, at: int) -> None:
        of = self._lists[-1]
        mark = of.bullet
        if of.number is not None:
            mark = f"{of.number}. "
            of.number += 1
        of.indent = of.outer + len(mark)
        checked = token.meta.get("checked")
        if checked is not None:
            mark = f"{'☑' if checked else '☐'} " if of.number is None else f"{mark}{'☑' if checked else '☐'} "
        self._mark = self._profile.prefix(mark)

    def _close_item(self, token: Token, at: int) -> None:
        if self._mark:
            self._put("")

    # Footnotes

    def _open_note(self, token: Token, at: int) -> int | None:
        """Keep a note that the text refers to for the end. Any other note stays in place, as written."""
        label = str(token.meta["label"])
        if f"^{label}" not in self._used:
            self._mark = self._profile.line([(0, f"[^{label}]: ")])
            return None
        end = at + 1
        while self._tokens[end].type != "footnote_reference_close" or self._tokens[end].level != token.level:
            end += 1
        self._note_ranges.setdefault(f"^{label}", []).append((at + 1, end))
        self._leave_out(token)
        return end + 1

    def _close_note(self, token: Token, at: int) -> None:
        self._close_item(token, at)

    def _write_notes(self) -> None:
        """Write the notes at the end, ordered by number. A note may refer to further notes, or contain them."""
        self._lists, self._quotes = [], []
        self._wants_gap = True
        names = self._notes.names  # grows while the notes are written
        written = 0
        while written < len(names) or self._note_ranges:
            name = names[written] if written < len(names) else next(iter(self._note_ranges))
            self._mark = self._profile.prefix(f"[{self._notes.number(name)}] ")
            written = min(written + 1, len(names))
            self._write_note(name)

    def _write_note(self, name: str) -> None:
        inline = self._notes.inline.get(name)
        if inline is not None:
            self._begin(_NOWHERE)
            self._put_lines(self._inline.lines(inline))
        for start, end in self._note_ranges.pop(name, ()):
            first = self._tokens[start].map
            self._source_line = first[0] if first else self._source_line
            self._write_range(start, end)
        self._close_item(_NOWHERE, 0)


_STAR_NOTE = re.compile(r"[\w)%]\*(?![\w*])")


def _plain(tokens: list[Token]) -> str:
    """The text between elements that are not text."""
    return "".join(token.content if token.type in ("text", "text_special") else "\n" for token in tokens)


_NOWHERE = Token("note", "", 0)


def _used_names(tokens: list[Token]) -> set[str]:
    """The names of link definitions that a link uses and, after a `^`, of notes that a mark refers to."""
    names: set[str] = set()
    for token in tokens:
        for child in token.children or ():
            if child.meta:
                label = str(child.meta.get("label", ""))
                names.add(f"^{label}" if child.type == "footnote_ref" else label)
    return names


_LOOSE_INDENT = 2


def _loose_indent(line: str) -> int:
    """The indentation of a list after another list: models indent by two where Markdown requires three below `1. `."""
    indent = len(line) - len(line.lstrip(" "))
    return 3 if indent >= _LOOSE_INDENT else 0


_Write = Callable[[_Writer, Token, int], "int | None"]

_WRITERS: dict[str, _Write] = {
    "paragraph_open": _Writer._paragraph,
    "heading_open": _Writer._heading,
    "fence": _Writer._code,
    "hr": _Writer._rule,
    "definition": _Writer._definition,
    "table_open": _Writer._table,
    "blockquote_open": _Writer._open_quote,
    "blockquote_close": _Writer._close_quote,
    "bullet_list_open": _Writer._open_bullets,
    "bullet_list_close": _Writer._close_list,
    "ordered_list_open": _Writer._open_numbers,
    "ordered_list_close": _Writer._close_list,
    "list_item_open": _Writer._open_item,
    "list_item_close": _Writer._close_item,
    "footnote_reference_open": _Writer._open_note,
    "footnote_reference_close": _Writer._close_note,
}


def write_blocks(parsed: Parsed, profile: Profile, *, star: int = EM) -> str:
    """Write the message. `star` is the style of one star: `EM` in Markdown, `STRONG` in WhatsApp's own syntax."""
    return _Writer(parsed, profile, star).write()
