"""Writes tables for a narrow screen: monospace columns if they fit, else "*Header:* value" lines for each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wcwidth import wcswidth

from eai_formatter.rendering.runs import STRONG, VERBATIM, Line, text_of

__all__ = ["Table", "lay_out", "records"]

_GUTTER = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a table as lines of runs, the head first. Rows may differ in length."""

    rows: list[list[Line]]
    aligns: list[str]  # "left", "right" or "center", for each column of the head


def lay_out(table: Table, width: int) -> str | None:
    """The table as monospace text; None if it is wider than `width` columns, or if monospace would spoil its content.

    Monospace spoils code, and links, which cannot be tapped in it. Widths are screen columns: one for `é`, two for an
    emoji.
    """
    if not width or any(flags & VERBATIM or "`" in text for row in table.rows for cell in row for flags, text in cell):
        return None
    cells = [[text_of(cell).strip() for cell in row] for row in table.rows]
    columns = max(len(row) for row in cells)
    widths = [max(_width(row[at]) if at < len(row) else 0 for row in cells) for at in range(columns)]
    if sum(widths) + len(_GUTTER) * (columns - 1) > width:
        return None
    aligns = [*table.aligns, *["left"] * (columns - len(table.aligns))]
    lines = [_row(row, widths, aligns) for row in cells]
    lines.insert(1, _GUTTER.join("-" * width for width in widths))
    return "\n".join(lines)


def _row(cells: list[str], widths: list[int], aligns: list[str]) -> str:
    padded = [_pad(cell, width, align) for cell, width, align in zip(cells, widths, aligns, strict=False)]
    return _GUTTER.join(padded).rstrip()


def _pad(cell: str, width: int, align: str) -> str:
    room = width - _width(cell)
    before = {"left": 0, "right": room, "center": room // 2}[align]
    return " " * before + cell + " " * (room - before)


def _width(text: str) -> int:
    if text.isascii() and text.isprintable():
        return len(text)
    width = wcswidth(text)
    return width if width >= 0 else len(text)


def records(table: Table) -> Iterator[list[Line]]:
    """Each row as "*Header:* value" lines. Empty cells are left out; the header of an empty column appears once."""
    head, *body = table.rows
    if not body:
        yield [cell for cell in head if not _is_empty(cell)]
    empty = [at for at in range(len(head)) if all(at >= len(row) or _is_empty(row[at]) for row in body)]
    for row in body:
        lines = [_record_line(_header(head, at), cell) for at, cell in enumerate(row) if not _is_empty(cell)]
        lines += [_record_line(head[at], [(0, "–")]) for at in empty if not _is_empty(head[at])]
        empty = []
        yield lines


def _is_empty(cell: Line) -> bool:
    return not text_of(cell).strip()


def _header(head: list[Line], at: int) -> Line:
    """The header of a column; empty for a column to the right of the head."""
    return head[at] if at < len(head) else []


def _record_line(header: Line, cell: Line) -> Line:
    name = text_of(header).strip()
    if not name:
        return cell
    bold: Line = [(flags if flags & VERBATIM else flags | STRONG, text) for flags, text in header]
    colon: Line = [] if name.endswith((":", "?")) else [(STRONG, ":")]
    return [*bold, *colon, (0, " "), *cell]
