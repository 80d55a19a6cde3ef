"""What a chat's syntax is: the part of rendering that differs between WhatsApp, plain text and Telegram."""

from __future__ import annotations

from typing import Protocol

from eai_formatter.rendering.runs import Line
from eai_formatter.rendering.syntax import Syntax

__all__ = ["Profile"]


class Profile(Protocol):
    """One chat's syntax. `WHATSAPP`, `PLAIN_TEXT` and `TELEGRAM` are the adapters; all are stateless.

    A profile writes; what is a heading, a list or a link was decided before. Every method gets text as it should be
    read, and gives it back in the chat's syntax.
    """

    @property
    def name(self) -> str:
        """For settings and messages: `whatsapp`, `plain`, `telegram`."""
        ...

    @property
    def links_inline(self) -> bool:
        """Whether a text can carry a link, `[text](url)`; else the URL stands after the text."""
        ...

    @property
    def table_width(self) -> int:
        """Columns of a monospace table that fit on a phone; 0 where there is no monospace."""
        ...

    @property
    def syntax(self) -> Syntax:
        """How its texts are read again, to be split."""
        ...

    @property
    def quote(self) -> str:
        """What starts a quoted line."""
        ...

    def line(self, runs: Line) -> str:
        """One line with its styles, balanced on that line. Text in `runs` is literal, and must come out literal."""
        ...

    def prefix(self, text: str) -> str:
        """A bullet or a number at the start of a line."""
        ...

    def url(self, url: str) -> str:
        """A URL, an address or a number, as it must stand in running text."""
        ...

    def target(self, url: str) -> str:
        """A URL inside `[text](…)`; used only if `links_inline`."""
        ...

    def code(self, code: str, markup: str) -> str:
        """Inline code; `markup` is the row of backticks it had in Markdown."""
        ...

    def code_block(self, code: str, info: str) -> list[str]:
        """The lines of a code block, or of a table set in monospace. `info` is the language, or ""."""
        ...
