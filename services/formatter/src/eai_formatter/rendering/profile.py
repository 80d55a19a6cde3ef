"""A chat's syntax: the part of rendering that differs between WhatsApp, plain text and Telegram."""

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
        """The name in settings and messages: `whatsapp`, `plain`, `telegram`."""
        ...

    @property
    def links_inline(self) -> bool:
        """Whether a text can be a link, `[text](url)`; if not, the URL follows the text."""
        ...

    @property
    def table_width(self) -> int:
        """How many monospace columns fit on a phone; 0 if there is no monospace."""
        ...

    @property
    def syntax(self) -> Syntax:
        """The syntax that `split` reads a finished text by."""
        ...

    @property
    def quote(self) -> str:
        """The prefix of a quoted line."""
        ...

    def line(self, runs: Line) -> str:
        """Write one line with its styles, balanced on that line. The text in `runs` is literal and stays literal."""
        ...

    def prefix(self, text: str) -> str:
        """Write a bullet or a number at the start of a line."""
        ...

    def url(self, url: str) -> str:
        """Write a URL, an address or a number in running text."""
        ...

    def target(self, url: str) -> str:
        """Write a URL inside `[text](…)`; used only if `links_inline`."""
        ...

    def code(self, code: str, markup: str) -> str:
        """Write inline code. `markup` is its row of backticks in Markdown."""
        ...

    def code_block(self, code: str, info: str) -> list[str]:
        """Write the lines of a code block, or of a monospace table. `info` is the language, or ""."""
        ...
