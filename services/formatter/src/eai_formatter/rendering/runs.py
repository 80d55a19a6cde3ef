"""Runs: a line of text as stretches of one style, the form between the token stream and a profile's own syntax."""

from __future__ import annotations

__all__ = ["CODE", "EM", "LINK", "STRIKE", "STRONG", "STYLES", "VERBATIM", "Line", "Run", "text_of"]

STRONG = 1
EM = 2
STRIKE = 4
STYLES = STRONG | EM | STRIKE
LINK = 8
"""A URL, or syntax around one: goes out as it is, and breaks the styles around it, so that no marker touches it."""
CODE = 16
"""Inline code with its markers; as `LINK`."""
VERBATIM = LINK | CODE

Run = tuple[int, str]
"""The flags above, and the text."""
Line = list[Run]


def text_of(line: Line) -> str:
    """What a line says, without any style."""
    return "".join(text for _, text in line)
