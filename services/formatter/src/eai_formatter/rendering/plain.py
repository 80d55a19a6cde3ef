"""Plain text: texts, lists and links without markers. For SMS, speech and logs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eai_formatter.rendering.runs import Line, text_of
from eai_formatter.rendering.syntax import Syntax

__all__ = ["PLAIN_TEXT", "PlainText"]
_ATOMS = re.compile(r"(?:https?|ftp)://[^\s<>]+")
_SYNTAX = Syntax(markers="", code="", fence="", quote="> ", atoms=_ATOMS, is_at_word_borders=True)


@dataclass(frozen=True, slots=True)
class PlainText:
    """The adapter for plain text."""

    name: str = "plain"
    links_inline: bool = False
    table_width: int = 0
    syntax: Syntax = _SYNTAX
    quote: str = "> "

    def line(self, runs: Line) -> str:
        """The text without styles."""
        return text_of(runs)

    def prefix(self, text: str) -> str:
        """Unchanged."""
        return text

    def url(self, url: str) -> str:
        """Unchanged."""
        return url

    def target(self, url: str) -> str:
        """Unchanged; not used."""
        return url

    def code(self, code: str, markup: str) -> str:
        """The code without a marker."""
        return code

    def code_block(self, code: str, info: str) -> list[str]:
        """The lines of the code without fences."""
        return code.split("\n")


PLAIN_TEXT = PlainText()
