"""Telegram's MarkdownV2. Source of the escapes: Telegram Bot API, "Formatting options"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eai_formatter.rendering.markers import fit, mark
from eai_formatter.rendering.runs import EM, STRIKE, STRONG, VERBATIM, Line
from eai_formatter.rendering.syntax import Syntax

__all__ = ["TELEGRAM", "Telegram"]

_MARKERS = {STRONG: "*", EM: "_", STRIKE: "~"}
_RESERVED = re.compile(r"([_*\[\]()~`>#+\-=|{}.!\\])")
_RESERVED_IN_TARGET = re.compile(r"([)\\])")
_RESERVED_IN_CODE = re.compile(r"([`\\])")
_ATOMS = re.compile(r"\[(?:[^\[\]\\\n]|\\.)*\]\((?:[^()\\\n]|\\.)*\)|`(?:[^`\\\n]|\\.)+`|https?://(?:[^\s\\]|\\.)+|\\.")
_SYNTAX = Syntax(markers="*_~", code="`", fence="```", quote=">", atoms=_ATOMS, is_at_word_borders=False)


@dataclass(frozen=True, slots=True)
class Telegram:
    """The adapter for Telegram with `parse_mode=MarkdownV2`."""

    name: str = "telegram"
    links_inline: bool = True
    table_width: int = 32
    syntax: Syntax = _SYNTAX
    quote: str = ">"

    def line(self, runs: Line) -> str:
        """One line. Styles may begin inside a word."""
        marked = mark(fit(runs, at_word_borders=False), _MARKERS)
        return "".join(text if flags < 0 or flags & VERBATIM else _escape(text) for flags, text in marked)

    def prefix(self, text: str) -> str:
        """Escaped: Telegram refuses a bare bullet, or the bare dot of a number."""
        return _escape(text)

    def url(self, url: str) -> str:
        """Escaped. Telegram turns it into a link."""
        return _escape(url)

    def target(self, url: str) -> str:
        """With `)` and backslash escaped."""
        return _RESERVED_IN_TARGET.sub(r"\\\1", url)

    def code(self, code: str, markup: str) -> str:
        """In one backtick."""
        escaped = _RESERVED_IN_CODE.sub(r"\\\1", code)
        return f"`{escaped}`" if code.strip() else _escape(code)

    def code_block(self, code: str, info: str) -> list[str]:
        """Between lines of three backticks, with the language."""
        language = info.split()[0] if info.split() else ""
        return [f"```{_escape(language)}", *_RESERVED_IN_CODE.sub(r"\\\1", code).split("\n"), "```"]


def _escape(text: str) -> str:
    return _RESERVED.sub(r"\\\1", text)


TELEGRAM = Telegram()
