"""A parser of WhatsApp's syntax for tests: it shows what a phone would show. It is independent of the renderer.

Where the apps differ, it styles more. So if it styles nothing by accident, no app does. Sources: as in `whatsapp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Shown", "show"]

_CODE = re.compile(r"```[^\n]+?```|`[^`\n]+`")
_URL = re.compile(r"(?:https?|ftp)://[^\s<>]+")
_STYLES = {"*": "bold", "_": "italic", "~": "strike"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One character on the screen."""

    char: str
    styles: frozenset[str]  # of "bold", "italic", "strike", "code"


def show(message: str) -> list[Shown]:
    """The characters of a message as shown, without the markers that style, line ends included."""
    shown: list[Shown] = []
    is_code = False
    for line in message.split("\n"):
        if line == "```":
            is_code = not is_code
        elif is_code:
            shown += [Shown(char, frozenset({"code"})) for char in line]
        else:
            shown += _show_line(line.removeprefix("> "))
        shown.append(Shown("\n", frozenset()))
    if is_code:
        raise AssertionError(f"expected every code block to end, got {message!r}")
    return shown


def _show_line(line: str) -> list[Shown]:
    codes = [found.span() for found in _CODE.finditer(line)]
    masked = _CODE.sub(lambda code: "x" * len(code.group()), line)
    masked = _URL.sub(lambda url: "".join(char if char.isalnum() else "-" for char in url.group()), masked)
    spans = [(start, end, style) for marker, style in _STYLES.items() for start, end in _spans(masked, marker)]
    hidden = {at for start, end, _ in spans for at in (start, end)}
    shown = []
    for at, char in enumerate(line):
        if at in hidden:
            continue
        styles = {style for start, end, style in spans if start < at < end}
        if any(start <= at < end for start, end in codes):
            styles.add("code")
        shown.append(Shown(char, frozenset(styles)))
    return shown


def _spans(line: str, marker: str) -> list[tuple[int, int]]:
    spans = []
    at = 0
    while (at := line.find(marker, at)) >= 0:
        end = _closing(line, marker, at) if _opens(line, marker, at) else -1
        if end > 0:
            spans.append((at, end))
            at = end
        at += 1
    return spans


def _opens(line: str, marker: str, at: int) -> bool:
    before, after = line[at - 1 : at], line[at + 1 : at + 2]
    return not before.isalnum() and bool(after) and not after.isspace() and after != marker


def _closing(line: str, marker: str, start: int) -> int:
    for at in range(start + 2, len(line)):
        is_marker = line[at] == marker and not line[at + 1 : at + 2].isalnum()
        if is_marker and line[at - 1] != marker and not line[at - 1].isspace():
            return at
    return -1
