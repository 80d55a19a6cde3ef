"""Runs: stretches of text in one style. They stand between the token stream and a profile's syntax."""

from __future__ import annotations

__all__ = ["CODE", "EM", "LINK", "STRIKE", "STRONG", "STYLES", "VERBATIM", "Line", "Run", "text_of"]

STRONG = 1
EM = 2
STRIKE = 4
STYLES = STRONG | EM | STRIKE
LINK = 8
"""A URL, or syntax around one. It is written unchanged, and no style spans it, so that no marker touches it."""
CODE = 16
"""Inline code with its markers. It is written like `LINK`."""
VERBATIM = LINK | CODE

Run = tuple[int, str]
"""The flags above, and the text."""
Line = list[Run]


def text_of(line: Line) -> str:
    """The text of a line without its styles."""
    return "".join(text for _, text in line)
