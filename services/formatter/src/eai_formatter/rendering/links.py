"""How a link is written where only bare URLs can be tapped: `text (url)`, or one of the two where they say the same."""

from __future__ import annotations

__all__ = ["address_of", "says_the_same"]


def address_of(href: str) -> str:
    """What a reader can use of a link target: the number of `tel:`, the address of `mailto:`, else the URL as it is.

    A jump inside the document (`#secao`) leads nowhere in a chat, and gives "".
    """
    scheme, colon, rest = href.partition(":")
    if colon and scheme.lower() in ("tel", "mailto"):
        return rest.partition("?")[0]
    return "" if href.startswith("#") else href


def says_the_same(text: str, address: str) -> bool:
    """Whether a text is the address, but for scheme, `www.`, a final `/`, or the way in which a number is written."""
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
