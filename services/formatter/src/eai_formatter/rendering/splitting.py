"""Splits a formatted text into messages: at a paragraph, else a line, else a sentence, else a word."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import regex

from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.syntax import LineMap, Syntax
from eai_formatter.rendering.whatsapp import WHATSAPP

__all__ = ["LIMIT", "SHORTEST_LIMIT", "Piece", "cut", "size", "split"]

LIMIT = 4096
"""Source: WhatsApp Cloud API, text message, `body`: "Maximum length: 4096 characters". Telegram's is the same."""
SHORTEST_LIMIT = 64
"""Below it, the markers that a cut may need leave no room for text."""


def split(text: str, limit: int = LIMIT, *, profile: Profile = WHATSAPP) -> list[str]:
    """Cut a formatted text into pieces of at most `limit` characters, in reading order.

    Characters are UTF-16 code units, the length in the apps' languages. No source documents the unit; in code points a
    piece is never longer (an emoji is two units and one code point).

    The joined pieces are the text, blank lines included, except for added markers: a style, a code block or a quote
    that continues over a cut is closed at the end of one piece and reopened at the start of the next (see `Piece`).

    A cut is never inside a URL, a line of code or a grapheme unless that alone is longer than a piece. White space that
    alone is longer is left out. Blank text gives []. Raises ValueError if `limit` is below 64.
    """
    return [piece.text for piece in cut(text, limit, profile=profile)]


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: a part of the text, and the markers that the cuts around it require."""

    opened: str  # markers that reopen the styles that the previous cut closed
    body: str
    closed: str  # markers that close the styles that continue in the next piece
    space: str  # the white space at the cut: outside the closing markers

    @property
    def text(self) -> str:
        """The message."""
        return f"{self.opened}{self.body}{self.closed}{self.space}"

    @property
    def own(self) -> str:
        """The part of the text that this piece carries. `"".join(piece.own for piece in cut(text))` is the text."""
        return self.body + self.space


def cut(text: str, limit: int = LIMIT, *, profile: Profile = WHATSAPP) -> list[Piece]:
    """As `split`, with the added markers kept apart. Raises ValueError for a limit under 16."""
    if limit < SHORTEST_LIMIT:
        raise ValueError(f"limit: got {limit}, takes {SHORTEST_LIMIT} characters or more")
    if not text.strip():
        return []
    if size(text) <= limit:
        return [Piece("", text, "", "")]
    return _Cutter(text, limit, profile.syntax).pieces()


def size(text: str) -> int:
    """A text's length in UTF-16 code units."""
    if text.isascii():
        return len(text)
    return len(text) + sum(1 for char in text if char > "\uffff")


@dataclass(frozen=True, slots=True)
class _Cut:
    """The end of a piece: its text ends at `end`, the next starts at `resume`, with white space between."""

    end: int
    resume: int
    closed: str = ""
    opened: str = ""


_SENTENCE_END = regex.compile(
    r"(?:(?<!\b\p{L}{1,3})\.|[!?…])[)\"'”’»*_~]*(?=\s)"  # a dot after a short word marks an abbreviation: "Av. Brasil"
)
_GRAPHEME = regex.compile(r"\X")
_SURE_BORDER = regex.compile(r"[!-~](?=[ -~])")  # between two characters of ASCII a grapheme always ends
_NEAR = 256
_LEAST_FILL = 8  # a piece has at least an eighth of the limit, even if a better place to cut is earlier


class _Cutter:
    """Cuts the text piece by piece. Each piece reads at most `limit` characters, so the time is linear."""

    def __init__(self, text: str, limit: int, syntax: Syntax) -> None:
        self._text = text
        self._limit = limit
        self._syntax = syntax
        self._fences = list(syntax.fences(text))
        self._fence_starts = [start for start, _ in self._fences]
        self._line: LineMap | None = None

    def pieces(self) -> list[Piece]:
        """All pieces in order."""
        pieces: list[Piece] = []
        at, opened = 0, ""
        while at < len(self._text):
            if self._reach(at, self._limit - len(opened)) >= len(self._text):
                pieces.append(Piece(opened, self._text[at:], "", ""))
                break
            place = self._place(at, self._limit - len(opened))
            pieces.append(Piece(opened, self._text[at : place.end], place.closed, self._text[place.end : place.resume]))
            at, opened = place.resume, place.opened
        return [piece for piece in pieces if piece.own.strip()]

    def _reach(self, start: int, room: int) -> int:
        """The end of the longest stretch from `start` that is no longer than `room`."""
        end = min(start + room, len(self._text))
        stretch = self._text[start:end]
        excess = size(stretch) - room
        while excess > 0:
            end -= max(1, excess // 2)
            excess = size(self._text[start:end]) - room
        return end

    def _place(self, start: int, room: int) -> _Cut:
        """The best place for the next cut."""
        end = self._reach(start, room)
        least = start + max(1, room // _LEAST_FILL)
        return (
            self._at_paragraph(start, least, end)
            or self._at_line(start, least, end)
            or self._in_fence(start, room)
            or self._in_line(start, room)
        )

    def _space(self, end: int, last: int) -> _Cut:
        """A cut at white space. The piece before keeps as much of the space as it has room for."""
        resume = end
        while resume < last and self._text[resume].isspace():
            resume += 1
        return _Cut(end, resume)

    def _at_paragraph(self, start: int, least: int, end: int) -> _Cut | None:
        return self._at_break("\n\n", start, least, end)

    def _at_line(self, start: int, least: int, end: int) -> _Cut | None:
        return self._at_break("\n", start, least, end)

    def _at_break(self, mark: str, start: int, least: int, end: int) -> _Cut | None:
        """The last such break outside code blocks; one right after a heading only if there is no other."""
        second_best: _Cut | None = None
        at = self._text.rfind(mark, least, end + len(mark))
        while at >= 0:
            fence = self._fence_around(at)
            if fence is not None:
                at = self._before_fence(fence, start)
                if at < 0:
                    break
            found = self._space(at, end)
            if not self._is_heading_above(at):
                return found
            second_best = second_best or found
            at = self._text.rfind(mark, least, at)
        return second_best

    def _before_fence(self, fence: tuple[int, int], start: int) -> int:
        """The line end above a code block, or -1 if the block starts the piece."""
        above = self._text.rfind("\n", start + 1, fence[0])
        while above > start and self._text[above - 1] == "\n":
            above -= 1
        return above if above > start else -1

    def _fence_around(self, at: int) -> tuple[int, int] | None:
        index = bisect.bisect_right(self._fence_starts, at) - 1
        if index < 0 or at >= self._fences[index][1]:
            return None
        return self._fences[index]

    def _is_heading_above(self, at: int) -> bool:
        """Whether the line that ends here is a heading or introduces what follows: `*Documentos*`, `Leve:`."""
        line = self._text[self._text.rfind("\n", max(0, at - self._limit), at) + 1 : at].rstrip()
        return line.endswith(":") or (len(line) > 2 and line[0] == line[-1] == "*" and line.count("*") == 2)

    def _in_fence(self, start: int, room: int) -> _Cut | None:
        """A cut at a line end in a code block that is too long for one piece."""
        fence = self._syntax.fence
        if not fence:
            return None
        end = self._reach(start, room - len(fence) - 1)
        at = self._text.rfind("\n", start + 1, end)
        if at < 0 or self._fence_around(at) is None or not self._text[start:at].strip(f"{fence}\n"):
            return None
        return _Cut(at + 1, at + 1, closed=f"{fence}\n", opened=f"{fence}\n")

    def _in_line(self, start: int, room: int) -> _Cut:
        """A cut in a line that is too long for one piece: after a sentence, else a word, else between graphemes."""
        end = self._reach(start, room - 3 * 3)  # room for the markers of three styles, or of a code block
        line = self._line_at(end)
        first = max(start, line.start)
        at = self._sentence_end(first, end, line) or self._word_end(first, end, line)
        if at is None and first > start:
            return self._space(first - 1, end)  # the line's start, although that makes the piece short
        at = at or self._anywhere(start, end, line)
        closing = line.open_at(at)
        place = self._space(at, self._reach(start, room - len("".join(closing))))
        return _Cut(place.end, place.resume, "".join(reversed(closing)), line.quote + "".join(closing))

    def _line_at(self, at: int) -> LineMap:
        if self._line is None or not self._line.start <= at <= self._line.end:
            first = self._text.rfind("\n", 0, at) + 1
            last = self._text.find("\n", at)
            end = last if last >= 0 else len(self._text)
            self._line = LineMap(self._text, first, end, self._syntax, largest_atom=self._limit // 2)
        return self._line

    def _sentence_end(self, start: int, end: int, line: LineMap) -> int | None:
        best = None
        for found in _SENTENCE_END.finditer(self._text, start + (end - start) // 2, end):
            if line.atom_around(found.end()) is None:
                best = found.end()
        return best

    def _word_end(self, start: int, end: int, line: LineMap) -> int | None:
        at = self._text.rfind(" ", start + 1, end + 1)
        while at > start:
            atom = line.atom_around(at)
            if atom is not None:
                at = self._text.rfind(" ", start + 1, atom[0])
            elif self._text[start:at].isspace() or not self._is_grapheme(at):
                at = self._text.rfind(" ", start + 1, at)
            else:
                return at
        return None

    def _is_grapheme(self, at: int) -> bool:
        """Whether the space here is a plain space, not the base of a combining mark."""
        found = _GRAPHEME.match(self._text, at)
        return found is not None and found.end() == at + 1

    def _anywhere(self, start: int, end: int, line: LineMap) -> int:
        atom = line.atom_around(end)
        if atom is not None and atom[0] > start:
            return atom[0]
        good = (at for at in reversed(self._grapheme_ends(start, end)) if not line.is_beside_marker(at))
        return next(good, end)

    def _grapheme_ends(self, start: int, end: int) -> list[int]:
        """Where graphemes end, up to `end`: from a sure border near it, else from `start`."""
        sure = _SURE_BORDER.search(self._text, max(start, end - _NEAR), end)
        ends: list[int] = []
        for found in _GRAPHEME.finditer(self._text, sure.end() if sure else start):
            if found.end() > end:
                break
            ends.append(found.end())
        return ends
