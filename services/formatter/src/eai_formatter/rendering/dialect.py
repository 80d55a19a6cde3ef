"""Detects the syntax of a text: Markdown, WhatsApp's own, or none."""

from __future__ import annotations

import re

__all__ = ["is_whatsapp", "may_be_markdown"]

_MARKUP = re.compile(r"[*_~`#<>&\[\]|\\]|^[ \t]*(?:\+|=|\d{1,9}[.)][ \t]|(?:-[ \t]*){2})", re.MULTILINE)


def may_be_markdown(text: str) -> bool:
    """Whether the text has any character that could be markup. Most short replies have none and need no parser."""
    return _MARKUP.search(text) is not None


_ONLY_MARKDOWN = re.compile(
    r"(?<!\*)\*\*(?=[^\s*])|(?<!_)__(?=[^\W_])|~~|\]\(|\]\[|\[\^|!\[|\\[*_~`\[]|</?[A-Za-z]|&#?\w+;"
    r"|^[ \t]*(?:\#{1,6}[ \t]|```\w|-{3,}[ \t]*$|\*{3,}[ \t]*$|={3,}[ \t]*$|\|.*\|[ \t]*$|[-*+][ \t]\[[ xX]\][ \t])",
    re.MULTILINE,
)
_URL = re.compile(r"(?:https?|ftp)://\S+")
_BEFORE, _AFTER = r"(?:^|(?<=[\s(>_*~]))", r"(?=[\s)_*~.,;:!?]|$)"
_BOLD = re.compile(rf"{_BEFORE}\*(?![\s*])[^*\n]{{0,400}}?(?<![\s*])\*{_AFTER}", re.MULTILINE)
_ITALIC = re.compile(rf"{_BEFORE}_(?![\s_])[^_\n]{{0,400}}?(?<![\s_])_{_AFTER}", re.MULTILINE)
_STRIKE = re.compile(rf"{_BEFORE}~(?![\s~])[^~\n]{{0,400}}?(?<![\s~])~{_AFTER}", re.MULTILINE)
_MONO = re.compile(r"```[^`\n]+```")
_LABEL = re.compile(r"^[^\w\n*]*\*(?![\s*])[^*\n]{1,80}(?::\*|(?<!\s)\*:)", re.MULTILINE)
_TITLE = re.compile(r"^[^\w\n*]*\*(?![\s*])[^*\n]{1,80}(?<![\s.*])\*[^\w\n*]*\n+(?=.)", re.MULTILINE)
_NESTED = re.compile(r"(?:_\*|\*_|~\*|\*~|_~|~_)(?=[^\s*_~])")


def is_whatsapp(text: str) -> bool:
    """Whether the text is already in WhatsApp's syntax, where `*x*` is bold. Such a text must not be changed.

    `*x*` alone does not decide: it is also Markdown's italic. So the text must have no Markdown-only syntax, and one
    sign of WhatsApp: a star span beside `_x_`, `~x~` or one-line triple backticks; one marker inside another
    (`_*x*_`); a label (`*Prazo:*`); a line that is all one star span with text below it, as a title.
    """
    if "*" not in text:
        return False
    if "://" in text:
        text = _URL.sub("", text)
    if _ONLY_MARKDOWN.search(text) or not _BOLD.search(text):
        return False
    return any(sign.search(text) for sign in (_ITALIC, _STRIKE, _MONO, _NESTED, _LABEL, _TITLE))
