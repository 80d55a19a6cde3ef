"""The HTML tags that a chat can show, and the effect of each. All other tags stay text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["KNOWN_TAG", "Effect", "Tag", "read_tag"]


class Effect(Enum):
    """The effect of a known tag on the text around it."""

    STRONG = "strong"
    EM = "em"
    STRIKE = "strike"
    CODE = "code"
    LINK = "link"
    IMAGE = "image"
    BREAK = "break"
    LINE = "line"  # starts and ends a line of its own
    PARAGRAPH = "paragraph"  # as LINE, with a blank line around it
    BULLETS = "bullets"
    NUMBERS = "numbers"
    RAISED = "raised"  # 10<sup>3</sup> is not 103
    HEADING = "heading"  # a line of its own, bold
    ITEM = "item"  # a line of its own, with a bullet or a number
    CELL = "cell"  # ends with a space
    NOTHING = "nothing"  # a chat cannot show its effect


_EFFECTS: dict[str, Effect] = {
    **dict.fromkeys(("b", "strong"), Effect.STRONG),
    **dict.fromkeys(("i", "em", "cite"), Effect.EM),
    **dict.fromkeys(("s", "del", "strike"), Effect.STRIKE),
    **dict.fromkeys(("code", "kbd", "samp", "tt", "pre"), Effect.CODE),
    "a": Effect.LINK,
    "img": Effect.IMAGE,
    "br": Effect.BREAK,
    **dict.fromkeys(("p", "hr", "table", "blockquote"), Effect.PARAGRAPH),
    **dict.fromkeys(("div", "section", "article", "thead", "tbody", "tr"), Effect.LINE),
    "ul": Effect.BULLETS,
    "ol": Effect.NUMBERS,
    "sup": Effect.RAISED,
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), Effect.HEADING),
    "li": Effect.ITEM,
    **dict.fromkeys(("td", "th"), Effect.CELL),
    **dict.fromkeys(("u", "ins", "span", "small", "big", "mark", "sub", "font", "center", "abbr"), Effect.NOTHING),
}

KNOWN_TAG = re.compile(rf"</?(?:{'|'.join(sorted(_EFFECTS, key=len, reverse=True))})(?:\s[^<>]*)?/?>", re.IGNORECASE)
"""One known tag. Attributes hold no `<` or `>`, which keeps the search linear."""

_NAME = re.compile(r"</?([A-Za-z0-9]+)")
_ATTRIBUTE = re.compile(r"([A-Za-z-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")


@dataclass(frozen=True, slots=True)
class Tag:
    """A parsed tag."""

    effect: Effect
    is_closing: bool
    source: str

    def attribute(self, name: str) -> str:
        """An attribute's value with its entities decoded; "" if the tag does not have it."""
        for found in _ATTRIBUTE.finditer(self.source):
            if found.group(1).lower() == name:
                return html.unescape(found.group(2) or found.group(3) or found.group(4) or "")
        return ""


def read_tag(source: str) -> Tag:
    """Parse a tag that `KNOWN_TAG` matched."""
    name = _NAME.match(source)
    return Tag(_EFFECTS[name.group(1).lower()] if name else Effect.NOTHING, source.startswith("</"), source)
