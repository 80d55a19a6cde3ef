"""Which texts from outside are refused: by default only what no person types.

Users talk to a language model, so "once = 1", SQL, code, `<3` and mathematics are ordinary messages. Nothing here makes
a text safe to show: whatever puts it into HTML escapes it there (the API's own answers are JSON, and say `nosniff`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

__all__ = ["CLEAN_CHARACTER", "ContentRules"]

CLEAN_CHARACTER = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
"""A pattern of one character that texts may have, as API descriptions say it."""

# C0 and DEL but for tab, line feed and carriage return. Not C1: texts that were decoded wrongly on their way hold it.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
# LRO and RLO turn the order of what follows round, which can hide what a text says (source: Unicode TR36, 2.4). Copied
# phone numbers come wrapped in one, so it takes many of them. The marks of Arabic and Hebrew are others.
_OVERRIDE = re.compile("[\u202d\u202e]")
_MOST_OVERRIDES = 20

# What a browser would run; each part bounded, so that no text takes long.
_SCRIPT = re.compile(
    r"<\s{0,20}/?\s{0,20}(?:script|iframe|object|embed|applet|meta|link|base|form|svg|math)\b"
    r"|<[a-z][^<>]{0,500}[\s/\"']on[a-z]{3,30}\s{0,20}="
    r"|\b(?:java|vb)script\s{0,20}:"
    r"|\bdata\s{0,20}:\s{0,20}text/html",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ContentRules:
    """`is_strict` refuses what a browser would run, too: code questions about HTML with it."""

    is_strict: bool = False

    def check(self, value: JsonValue) -> None:
        """Look at every text in a JSON value, also at the names. Raises ValueError, which says what is wrong."""
        for text in _texts(value):
            self._check_text(text)

    def _check_text(self, text: str) -> None:
        if found := _CONTROL.search(text):
            raise ValueError(f"has the control character U+{ord(found[0]):04X}")
        if _HALF_PAIR.search(text):
            raise ValueError("is no valid Unicode: it has half of a surrogate pair")
        if (overrides := len(_OVERRIDE.findall(text))) > _MOST_OVERRIDES:
            raise ValueError(f"has {overrides} marks that turn the direction of text, takes {_MOST_OVERRIDES} at most")
        if self.is_strict and _SCRIPT.search(text):
            raise ValueError("has HTML that a browser would run")


def _texts(value: JsonValue) -> Iterator[str]:
    """Without recursion: JSON from outside may be nested deeper than Python's stack."""
    left = [value]
    while left:
        match left.pop():
            case str(text):
                yield text
            case dict(fields):
                yield from fields
                left.extend(fields.values())
            case list(items):
                left.extend(items)
