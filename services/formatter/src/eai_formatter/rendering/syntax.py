"""Reads a chat's formatted text for splitting: where it must not be cut, and which styles are open at a place."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["LineMap", "Syntax"]


@dataclass(frozen=True, slots=True)
class Syntax:
    """The parts of a chat's syntax that a cut could break."""

    markers: str  # each character opens and closes a style
    code: str  # opens and closes inline code; "" if there is none
    fence: str  # opens and closes a code block, alone on a line or in it; "" if there is none
    quote: str  # starts a quoted line
    atoms: re.Pattern[str]  # must not be cut
    is_at_word_borders: bool  # whether a marker inside a word is a plain character

    def fences(self, text: str) -> Iterator[tuple[int, int]]:
        """The code blocks with their fences, as (start, end). An unpaired fence does not count."""
        if not self.fence:
            return
        start = text.find(self.fence)
        while start >= 0:
            end = text.find(self.fence, start + len(self.fence))
            if end < 0:
                return
            end += len(self.fence)
            yield start, end
            start = text.find(self.fence, end)


@dataclass(slots=True)
class _Spans:
    """Stretches of a line that do not overlap, in order."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        """Append a stretch after all others."""
        self.starts.append(start)
        self.ends.append(end)

    def around(self, at: int) -> tuple[int, int] | None:
        """The stretch that begins before this place and does not end before it."""
        index = bisect.bisect_left(self.starts, at) - 1
        return (self.starts[index], self.ends[index]) if index >= 0 and at <= self.ends[index] else None


class LineMap:
    """The atoms and styled spans of a line that is too long for one piece, by positions in the whole text."""

    __slots__ = ("_atoms", "_styles", "end", "quote", "start")

    def __init__(self, text: str, start: int, end: int, syntax: Syntax, largest_atom: int) -> None:
        self.start, self.end = start, end
        self.quote = syntax.quote if syntax.quote and text.startswith(syntax.quote, start, end) else ""
        self._atoms = _Spans()
        self._styles: dict[str, _Spans] = {}
        for found in syntax.atoms.finditer(text, start, end):
            code = self._code_of(found.group(), syntax)
            if code and len(found.group()) > largest_atom:  # too long for one piece: reopened after a cut, like a style
                self._styles.setdefault(code, _Spans()).add(found.start(), found.end() - len(code))
            else:
                self._atoms.add(*found.span())
        for marker in syntax.markers:
            self._styles[marker] = self._spans_of(text, marker, is_at_word_borders=syntax.is_at_word_borders)

    @staticmethod
    def _code_of(atom: str, syntax: Syntax) -> str:
        """The marker around an atom that is code; "" for any other."""
        return next((code for code in (syntax.fence, syntax.code) if code and atom.startswith(code)), "")

    def _spans_of(self, text: str, marker: str, *, is_at_word_borders: bool) -> _Spans:
        spans = _Spans()
        opened = -1
        for at in self._outside_atoms(text, marker, row_ends_only=is_at_word_borders):
            before = text[at - 1] if at > self.start else " "
            after = text[at + 1] if at + 1 < self.end else " "
            may_open = not (is_at_word_borders and (after.isspace() or after == marker or before.isalnum()))
            may_close = not (is_at_word_borders and (before.isspace() or before == marker or after.isalnum()))
            if opened >= 0 and may_close:
                spans.add(opened, at)
                opened = -1
            elif opened < 0 and may_open:
                opened = at
        return spans

    def _outside_atoms(self, text: str, marker: str, *, row_ends_only: bool) -> Iterator[int]:
        """The places of the marker; of a row, the first and the last, because the others neither open nor close."""
        for row in re.compile(re.escape(marker) + ("+" if row_ends_only else "")).finditer(text, self.start, self.end):
            for at in {row.start(): 0, row.end() - 1: 0}:
                if self._atoms.around(at + 1) is None:
                    yield at

    def atom_around(self, at: int) -> tuple[int, int] | None:
        """The atom that a cut at this place would break."""
        atom = self._atoms.around(at)
        return atom if atom and at < atom[1] else None

    def open_at(self, at: int) -> list[str]:
        """The markers of the styles that are open at this place, outermost first."""
        found = [(span, marker) for marker, spans in self._styles.items() if (span := spans.around(at))]
        return [marker for _, marker in sorted(found)]

    def is_beside_marker(self, at: int) -> bool:
        """Whether a cut here would leave a marker without text to style."""
        return any(
            at in (span[0] + len(marker), span[1])
            for marker, spans in self._styles.items()
            if (span := spans.around(at))
        )
