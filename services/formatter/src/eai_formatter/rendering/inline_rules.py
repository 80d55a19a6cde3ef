"""The inline rules, each a markdown-it-py rule `(state, silent) -> matched`.

They accept more than CommonMark because people and models write loosely. A marker that WhatsApp cannot show (inside a
word, between digits) stays as the author typed it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it.rules_inline import StateInline, backtick, entity, escape, image, link
from markdown_it.rules_inline.state_inline import Delimiter
from mdit_py_plugins.footnote.index import footnote_inline

from eai_formatter.rendering.html import KNOWN_TAG
from eai_formatter.rendering.links import trim_url

__all__ = ["RULES", "STOPS"]

Rule = Callable[[StateInline, bool], bool]

STOPS = re.compile(r"[\n&*<\[\]\\_`~]|:(?=//)|[!^](?=\[)")
"""Matches where plain text may end."""

_DUNDER = re.compile(r"__\w{1,40}?__(?=\(|\.\w)|(?<=\w)__(?=\(|\.\w)")  # `__init__.py`, `__main__()`
_LONGEST_ROW = 3  # `***`; a longer row of stars is decoration, not emphasis
_GLUE = frozenset("/\\=&@#%+")  # before a marker these mean a path, a query or a formula, not emphasis
_CLOSERS = frozenset(")]}.,;:!?/")
_OPENERS = frozenset("([{")


def emphasis(state: StateInline, silent: bool) -> bool:
    """`*i*`, `_i_`, `**b**`, `__b__`, `***both***`."""
    if silent:
        return False
    start = state.pos
    marker, end, before, after = _row(state)
    length = end - start
    if length > _LONGEST_ROW or (length == 2 and _DUNDER.match(state.src, start)):
        state.append_pending(state.src[start:end])
    else:
        if marker == "*" and length > 1:
            opens, closes = _double_star_flanks(state, before, after)
        else:
            opens, closes = _flanks(before, after, marker)
        _push_delimiters(state, marker, length, opens=opens, closes=closes)
    state.pos = end
    return True


def _row(state: StateInline) -> tuple[str, int, str, str]:
    """The marker, the end of its row, and the characters around the row; a space at either end of the text."""
    src, start, limit = state.src, state.pos, state.posMax
    marker = src[start]
    end = start + 1
    while end < limit and src[end] == marker:
        end += 1
    return marker, end, src[start - 1] if start else " ", src[end] if end < limit else " "


def _flanks(before: str, after: str, marker: str) -> tuple[bool, bool]:
    """Whether a single `*`, or a row of `_`, may open and may close a style: both only at word borders.

    So `5*3*2`, `snake_case`, `/_a_/`, `10%*`, `(*)` and `*.pdf` stay as they are. A star after punctuation may close
    before a letter, as in `*Nota:*vale`.
    """
    opens = not (after.isspace() or after in _CLOSERS or before.isalnum() or before in _GLUE)
    closes = not (before.isspace() or before in _OPENERS)
    if closes and after.isalnum():
        closes = marker == "*" and not before.isalnum()
    elif closes and marker == "_":
        closes = after not in "(/"
    return opens, closes


def _double_star_flanks(state: StateInline, before: str, after: str) -> tuple[bool, bool]:
    """Whether `**` may open and may close: wherever it touches text. Thus `**Endereço:**Rua` is bold.

    `**Atenção: **leia`, with its space on the wrong side, also closes if it is the second of a pair on its line.
    `2**3` is a power.
    """
    if before.isdigit() and after.isdigit():
        return False, False
    opens = not (after.isspace() or after in _CLOSERS)
    closes = not before.isspace() or (opens and _has_open_pair(state))
    return opens, closes


_PAIR_OPENS = re.compile(r"(?<!\S)\*\*(?=[^\s*])")
_PAIR_CLOSES = re.compile(r"(?<=[^\s*])\*\*(?![^\s.,;:!?)])")
_LINE_REACH = 400  # enough for a line, and a limit on the time that a hostile line can take


def _has_open_pair(state: StateInline) -> bool:
    """Whether the line so far has an unpaired `**`, and the rest of it has no closing `**` to spare."""
    src, at = state.src, state.pos
    line_start = max(src.rfind("\n", max(0, at - _LINE_REACH), at) + 1, at - _LINE_REACH)
    if src.count("**", line_start, at) % 2 == 0:
        return False
    rest = src[at + 2 : at + 2 + _LINE_REACH].partition("\n")[0]
    return len(_PAIR_CLOSES.findall(rest)) <= len(_PAIR_OPENS.findall(rest))


def strikethrough(state: StateInline, silent: bool) -> bool:
    """`~~s~~`, and WhatsApp's own `~s~`."""
    if silent:
        return False
    start = state.pos
    _, end, before, after = _row(state)
    length = end - start
    if length > 2:
        state.append_pending(state.src[start:end])
    else:
        opens = not after.isspace() and (length == 2 or not (before.isalnum() or before in _GLUE or after in _CLOSERS))
        closes = not before.isspace() and (length == 2 or not (after.isalnum() or before in _OPENERS))
        token = state.push("text", "", 0)
        token.content = state.src[start:end]
        # length=0 disables the "rule of three", which is only for emphasis
        state.delimiters.append(Delimiter(ord("~"), 0, len(state.tokens) - 1, -1, opens, closes))
    state.pos = end
    return True


def _push_delimiters(state: StateInline, marker: str, length: int, *, opens: bool, closes: bool) -> None:
    if not (opens or closes):
        state.append_pending(marker * length)
        return
    for _ in range(length):
        token = state.push("text", "", 0)
        token.content = marker
        state.delimiters.append(Delimiter(ord(marker), length, len(state.tokens) - 1, -1, opens, closes))


_SCHEME = re.compile(r"(?<![A-Za-z0-9])(?:https?|ftp)$", re.IGNORECASE)
_URL_REST = re.compile(r"://(?:(?!\*\*|~~)[^\s<>\[\]`\"|\\])+")


def bare_url(state: StateInline, silent: bool) -> bool:
    """`https://…` in running text. It becomes one token, so that nothing in it counts as markup."""
    at = state.pos
    scheme = _SCHEME.search(state.src, max(0, at - 6), at)
    rest = _URL_REST.match(state.src, at, state.posMax) if scheme else None
    if scheme is None or rest is None:
        return False
    end = at + len(trim_url(rest.group(), _markers_before(state.src, scheme.start())))
    if end <= at + 3:
        return False
    if not silent:
        name = scheme.group()
        pending = state.pending
        if not pending.endswith(name):
            return False
        state.pending = pending[: -len(name)]
        state.push("url", "", 0).content = name + state.src[at:end]
    state.pos = end
    return True


def _markers_before(src: str, at: int) -> str:
    start = at
    while start and at - start < 6 and src[start - 1] in "*_~":
        start -= 1
    return src[start:at]


_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto|tel):[^<>\s]+)>", re.IGNORECASE)
_EMAIL = re.compile(r"<([\w.!#$%&'*+/=?^`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,10})>")


def autolink(state: StateInline, silent: bool) -> bool:
    """`<https://…>` and `<nome@rio.br>`. Other schemes are text: `<CPF:123>` is no link target."""
    found = _AUTOLINK.match(state.src, state.pos, state.posMax)
    is_email = found is None
    if found is None:
        found = _EMAIL.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        target = found.group(1)
        opening = state.push("link_open", "a", 1)
        opening.attrs = {"href": f"mailto:{target}" if is_email else target}
        state.push("text", "", 0).content = target
        state.push("link_close", "a", -1)
    state.pos = found.end()
    return True


def html_tag(state: StateInline, silent: bool) -> bool:
    """A tag that can be shown as formatting. Any other, such as `<CPF>`, is text."""
    found = KNOWN_TAG.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("html_inline", "", 0).content = found.group()
    state.pos = found.end()
    return True


def inline_link(state: StateInline, silent: bool) -> bool:
    """`[text](url)` and `[text][ref]`, tried only if the rest of the text can contain a link."""
    if state.html_terminator_last("](") < state.pos and not state.env.get("references"):
        return False
    return link(state, silent)


def inline_image(state: StateInline, silent: bool) -> bool:
    """`![alt](url)`, tried only if the rest of the text can contain one."""
    if state.html_terminator_last("](") < state.pos and not state.env.get("references"):
        return False
    return image(state, silent)


_FOOTNOTE_MARK = re.compile(r"\[\^([^\s\[\]]{1,100})\]")


def footnote_mark(state: StateInline, silent: bool) -> bool:
    """`[^nota]`, if the text defines this note."""
    found = _FOOTNOTE_MARK.match(state.src, state.pos, state.posMax)
    if found is None or f":{found.group(1)}" not in state.env.get("footnotes", {}).get("refs", {}):
        return False
    if not silent:
        state.push("footnote_ref", "", 0).meta = {"label": found.group(1)}
    state.pos = found.end()
    return True


def footnote_text(state: StateInline, silent: bool) -> bool:
    """`^[an inline note]`."""
    if state.html_terminator_last("]") < state.pos:
        return False
    return footnote_inline(state, silent)


def newline(state: StateInline, silent: bool) -> bool:
    """A line break stays a line break: addresses and opening hours are written line by line.

    The next line's indentation is dropped, except before a bullet typed as a sign, which shows its depth by it.
    """
    src, pos = state.src, state.pos + 1
    start = pos
    while pos < state.posMax and src[pos] in " \t":
        pos += 1
    if not silent:
        pending = state.pending
        state.pending = pending.rstrip(" ")
        # state.push reads the pending text; one trailing space and two make the same break
        token = state.push("softbreak", "br", 0)
        if src[pos : pos + 1] in _TYPED_BULLETS:
            token.content = src[start:pos]
    state.pos = pos
    return True


_TYPED_BULLETS = frozenset("•◦▪‣·–")

RULES: dict[str, tuple[Rule, ...]] = {
    "\n": (newline,),
    "\\": (escape,),
    "`": (backtick,),
    "~": (strikethrough,),
    "*": (emphasis,),
    "_": (emphasis,),
    "[": (footnote_mark, inline_link),
    "!": (inline_image,),
    "^": (footnote_text,),
    "<": (autolink, html_tag),
    "&": (entity,),
    ":": (bare_url,),
}
