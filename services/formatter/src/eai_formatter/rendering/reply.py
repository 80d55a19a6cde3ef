"""Converts an agent's answer to the messages that are sent. This is the entry point of rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eai_formatter.rendering.blocks import write_blocks
from eai_formatter.rendering.dialect import is_whatsapp, may_be_markdown
from eai_formatter.rendering.links import urls_apart
from eai_formatter.rendering.parser import Parsed, parse
from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.runs import EM, STRONG
from eai_formatter.rendering.splitting import LIMIT, split
from eai_formatter.rendering.whatsapp import WHATSAPP

__all__ = ["Formatted", "format_reply", "render"]


LONGEST_MARKDOWN = 250_000
"""In characters: sixty messages. No reply is longer, and Markdown's tokens may take 400 bytes for each character."""


@dataclass(frozen=True, slots=True)
class Formatted:
    """A formatted answer."""

    content: str
    """The whole text: `contents` joined."""
    contents: list[str]
    """The pieces in order, each short enough for one message. An empty answer has none."""


def format_reply(markdown: str, *, profile: Profile = WHATSAPP, limit: int = LIMIT) -> Formatted:
    """Format an agent's answer in the chat's syntax, in pieces of at most `limit` characters, as `split` counts."""
    contents = split(render(markdown, profile), limit, profile=profile)
    return Formatted("".join(contents), contents)


def render(markdown: str, profile: Profile = WHATSAPP) -> str:
    """Convert Markdown to the chat's syntax. Raises nothing for any text; takes time linear in its length.

    Plain text stays as it is, except for outer blank lines; for WhatsApp, so does text that is already in WhatsApp's
    syntax. A text longer than `LONGEST_MARKDOWN` counts as plain text.
    """
    text = _tidy(markdown)
    if len(text) > LONGEST_MARKDOWN or not may_be_markdown(text):
        return _unformatted(text, profile)
    is_native = is_whatsapp(text)
    if is_native and profile is WHATSAPP:
        return text
    parsed = parse(text)
    if _is_plain(parsed):
        return _unformatted(text, profile)
    return write_blocks(parsed, profile, star=STRONG if is_native else EM)


_LINE_END = re.compile(r"\r\n?")
_OUTER_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_WIDE_SPACE = re.compile(r"\s{1024,}")


def _tidy(text: str) -> str:
    """The text with `\\n` for line ends, without outer blank lines and without very long spaces."""
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    return _WIDE_SPACE.sub(lambda space: "\n\n" if "\n" in space.group() else " ", _OUTER_LINES.sub("", text.rstrip()))


_PLAIN_BLOCKS = frozenset(("paragraph_open", "inline", "paragraph_close"))
_PLAIN_INLINES = frozenset(("text", "softbreak", "url"))


def _is_plain(parsed: Parsed) -> bool:
    """Whether the text has only paragraphs of text and URLs."""
    return all(
        token.type in _PLAIN_BLOCKS and all(child.type in _PLAIN_INLINES for child in token.children or ())
        for token in parsed.tokens
    )


def _unformatted(text: str, profile: Profile) -> str:
    """The text line by line, escaped where the chat would style it by accident."""
    return "\n".join(profile.line(urls_apart(line, profile)) if line else line for line in text.split("\n"))
