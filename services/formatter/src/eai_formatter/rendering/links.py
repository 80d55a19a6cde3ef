"""Finds the end of a URL, and writes links for chats where only a bare URL can be tapped."""

from __future__ import annotations

import re

from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.runs import LINK, Line

__all__ = ["address_of", "says_the_same", "trim_url", "urls_apart"]


def address_of(href: str) -> str:
    """The part of a link target that a reader can use: the number of `tel:`, the address of `mailto:`, or the URL.

    A jump inside the document (`#secao`) leads nowhere in a chat, so it is "".
    """
    scheme, colon, rest = href.partition(":")
    if colon and scheme.lower() in ("tel", "mailto"):
        return rest.partition("?")[0]
    return "" if href.startswith("#") else href


def says_the_same(text: str, address: str) -> bool:
    """Whether a text equals the address except for scheme, `www.`, a final `/`, or the format of a number."""
    text = text.strip()
    if text == address or _bare(text) == _bare(address):
        return True
    digits = _digits(address)
    return len(digits) >= 3 and not any(c.isalpha() for c in text + address) and _digits(text) == digits


def _bare(url: str) -> str:
    for prefix in ("https://", "http://", "mailto:", "tel:"):
        url = url.removeprefix(prefix)
    return url.removeprefix("www.").rstrip("/").lower()


def _digits(number: str) -> str:
    """A number's digits, in Brazil's national form, so that `(21) 3460-1746` and `+552134601746` are one."""
    digits = "".join(c for c in number if c.isdigit())
    return digits.removeprefix("55") if len(digits) >= 12 else digits


_URL_TAIL = frozenset(".,;:!?'”’")


def trim_url(url: str, opened: str = "") -> str:
    """A URL without the sentence's own characters: trailing punctuation, and a `)` or a marker that it does not open.

    `opened` holds the markers right before it, as in `_*https://…*_`.
    """
    unopened = url.count(")") - url.count("(")
    waiting = list(opened)
    end = len(url)
    while end:
        last = url[end - 1]
        if last == ")" and unopened > 0:
            unopened -= 1
        elif waiting and last == waiting[-1]:
            waiting.pop()
        elif last not in _URL_TAIL and not (last in "*_~" and url.count(last, 0, end) % 2):
            break
        end -= 1
    return url[:end]


_URL = re.compile(r"(?:https?|ftp)://[^\s<>\[\]`\"|\\]+", re.IGNORECASE)


def urls_apart(line: str, profile: Profile) -> Line:
    """Separate a line's URLs from its text."""
    runs: Line = []
    start = 0
    for found in _URL.finditer(line) if "://" in line else ():
        end = found.start() + len(trim_url(found.group()))
        runs += [(0, line[start : found.start()]), (LINK, profile.url(line[found.start() : end]))]
        start = end
    return [*runs, (0, line[start:])]
