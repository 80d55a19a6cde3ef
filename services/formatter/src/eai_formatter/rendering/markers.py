"""Puts markers around styled runs: decides which styles can be shown, and where their markers go."""

from __future__ import annotations

from collections.abc import Mapping

from eai_formatter.rendering.runs import EM, STRIKE, STRONG, STYLES, VERBATIM, Line

__all__ = ["fit", "mark"]

_ORDER = (EM, STRONG, STRIKE)  # of opening, where all last equally long: `_*both*_`
_SPACE_MAY_FOLLOW = frozenset(":;,.!?…)»”")


def fit(runs: Line, *, at_word_borders: bool) -> Line:
    """The runs, without the styles that cannot be shown.

    Spaces at the edges of a style move out of it; a style without visible text is dropped. With `at_word_borders`, as
    WhatsApp requires, a style that begins or ends inside a word is dropped too. After one that ends in punctuation
    (`**Endereço:**Rua`) a space is added instead.
    """
    runs = _spaces_outside(
        [(flags if not flags & VERBATIM else flags & VERBATIM, text) for flags, text in runs if text]
    )
    if at_word_borders:
        for style in _ORDER:
            if any(flags & style for flags, _ in runs):
                runs = _at_word_borders(runs, style)
    return runs


def _spaces_outside(runs: Line) -> Line:
    """Runs without outer spaces. The spaces between them become runs with the styles that both neighbours share."""
    pieces: Line = []
    for flags, text in runs:
        if flags & STYLES and (text[0].isspace() or text[-1].isspace()):
            core = text.strip()
            lead = len(text) - len(text.lstrip())
            pieces += (
                [(flags, text[:lead]), (flags, core), (flags, text[lead + len(core) :])] if core else [(flags, text)]
            )
        else:
            pieces.append((flags, text))
    pieces = [piece for piece in pieces if piece[1]]
    following = _next_visible_styles(pieces)
    result: Line = []
    before = 0
    for (flags, text), after in zip(pieces, following, strict=True):
        if flags & STYLES and text.isspace():
            flags &= before & after
        elif not text.isspace():
            before = flags & STYLES
        result.append((flags, text))
    return result


def _next_visible_styles(runs: Line) -> list[int]:
    """For each run, the styles of the next one that is not space."""
    result: list[int] = []
    after = 0
    for flags, text in reversed(runs):
        result.append(after)
        if not text.isspace():
            after = flags & STYLES
    return result[::-1]


def _at_word_borders(runs: Line, style: int) -> Line:
    result: Line = []
    at = 0
    while at < len(runs):
        end = at
        while end < len(runs) and runs[end][0] & style:
            end += 1
        if end == at:
            result.append(runs[at])
            end += 1
        else:
            result += _fitted(result[-1:], runs[at:end], runs[end : end + 1], style)
        at = end
    return result


def _fitted(before: Line, stretch: Line, after: Line, style: int) -> Line:
    """One stretch of a style. Drops the style, or adds a space behind, if a marker would be inside a word."""
    starts_in_word = bool(before) and _glues(before[0][1][-1], marker_styles=before[0][0] & ~stretch[0][0])
    ends_in_word = bool(after) and _glues(after[0][1][0], marker_styles=after[0][0] & ~stretch[-1][0])
    if ends_in_word and not starts_in_word and stretch[-1][1][-1] in _SPACE_MAY_FOLLOW:
        return [*stretch, (stretch[-1][0] & after[0][0] & STYLES & ~style, " ")]
    if starts_in_word or ends_in_word:
        return [(flags & ~style, text) for flags, text in stretch]
    return stretch


def _glues(neighbour: str, *, marker_styles: int) -> bool:
    """Whether a marker beside this character would be inside a word. A marker of the neighbour would separate them."""
    return neighbour.isalnum() and not marker_styles & STYLES


def mark(runs: Line, markers: Mapping[int, str]) -> Line:
    """The runs with marker runs, of flags 0 and style -1, between them; every style that opens closes on the line."""
    marked: Line = []
    open_styles: list[int] = []
    for at, (flags, text) in enumerate(runs):
        wanted = flags & STYLES
        while open_styles and sum(open_styles) & ~wanted:
            marked.append((-1, markers[open_styles.pop()]))
        for style in _opening_order(runs, at, wanted & ~sum(open_styles)):
            open_styles.append(style)
            marked.append((-1, markers[style]))
        marked.append((flags, text))
    marked += [(-1, markers[style]) for style in reversed(open_styles)]
    return marked


def _opening_order(runs: Line, at: int, styles: int) -> list[int]:
    """The styles to open, ordered by length, longest first."""
    if not styles & (styles - 1):  # none or one
        return [styles] if styles else []
    return sorted((style for style in _ORDER if styles & style), key=lambda style: -_lasts(runs, at, style))


def _lasts(runs: Line, at: int, style: int) -> int:
    end = at
    while end < len(runs) and runs[end][0] & style:
        end += 1
    return end
