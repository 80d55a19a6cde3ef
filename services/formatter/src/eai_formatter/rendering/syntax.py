"""How a finished text of some chat is read again: where it may not be cut, and what is open at a place. Splitting needs
no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LineMap", "Syntax"]


@dataclass(frozen=True, slots=True)
class Syntax:
    """The parts of a chat's syntax that a cut could break."""

    markers: str  # each opens and closes a style
    code: str  # opens and closes inline code; "" where there is none
    fence: str  # alone on a line, or in it, opens and closes a code block; "" where there is none
    quote: str  # starts a quoted line
    atoms: re.Pattern[str]  # what must stay in one piece
    is_at_word_borders: bool  # whether a marker inside a word is only a character

    def fences(self, text: str) -> Iterator[tuple[int, int]]:
        """The code blocks, with their fences, as (start, end). A fence without its partner is none."""
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


class LineMap:
    """One line's atoms and styled spans, by positions in the whole text. Made only for lines too long for a piece."""

    __slots__ = ("_atoms", "_spans", "end", "quote", "start")

    def __init__(self, text: str, start: int, end: int, syntax: Syntax, largest_atom: int) -> None:
        self.start, self.end = start, end
        self.quote = syntax.quote if syntax.quote and text.startswith(syntax.quote, start, end) else ""
        self._atoms: list[tuple[int, int]] = []
        self._spans: list[tuple[int, int, str]] = []
        for found in syntax.atoms.finditer(text, start, end):
            is_code = bool(syntax.code) and found.group().startswith(syntax.code)
            if is_code and len(found.group()) > largest_atom:
                fence = syntax.fence if found.group().startswith(syntax.fence) else syntax.code
                self._spans.append((found.start(), found.end() - len(fence), fence))
            else:
                self._atoms.append(found.span())
        for marker in syntax.markers:
            self._spans += self._spans_of(text, marker, is_at_word_borders=syntax.is_at_word_borders)
        self._spans.sort()

    def _spans_of(self, text: str, marker: str, *, is_at_word_borders: bool) -> Iterator[tuple[int, int, str]]:
        opened = -1
        for at in self._outside_atoms(text, marker):
            before = text[at - 1] if at > self.start else " "
            after = text[at + 1] if at + 1 < self.end else " "
            if opened >= 0 and not (is_at_word_borders and (before.isspace() or after.isalnum())):
                yield opened, at, marker
                opened = -1
            elif opened < 0 and not (is_at_word_borders and (after.isspace() or before.isalnum())):
                opened = at

    def _outside_atoms(self, text: str, marker: str) -> Iterator[int]:
        atoms = iter([*self._atoms, (self.end, self.end)])
        atom = next(atoms)
        at = text.find(marker, self.start, self.end)
        while at >= 0:
            while atom[1] <= at and atom[0] < self.end:
                atom = next(atoms)
            if not atom[0] <= at < atom[1]:
                yield at
            at = text.find(marker, at + 1, self.end)

    def atom_around(self, at: int) -> tuple[int, int] | None:
        """The atom that a cut at this place would go through."""
        return next(((start, end) for start, end in self._atoms if start < at < end), None)

    def open_at(self, at: int) -> list[str]:
        """The markers of the styles that are open at this place, outermost first."""
        return [marker for start, end, marker in self._spans if start < at <= end]

    def is_beside_marker(self, at: int) -> bool:
        """Whether a cut here would leave a marker with nothing to style."""
        return any(at in (start + len(marker), end) for start, end, marker in self._spans)
