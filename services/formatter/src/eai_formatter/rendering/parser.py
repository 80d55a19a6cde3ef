"""The Markdown parser: one shared markdown-it-py instance with the rules of this package.

It produces markdown-it-py's token stream. Each rule in `block_rules` and `inline_rules` says how it differs from
CommonMark and why. Three things are left out on purpose: indented code (four spaces before prose are not code),
headings underlined with `---`, and HTML blocks (an unknown tag such as `<CPF>` is text).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType

from eai_formatter.rendering import block_rules, inline_rules

__all__ = ["Parsed", "parse"]

MAX_NESTING = 20
"""The depth of nested brackets. Deeper ones stay as text. This limits the recursion."""


class DispatchingInline(ParserInline):
    """An inline parser that chooses the rules by the current character instead of trying each rule at each stop.

    Same tokens as `ParserInline` with the same rules, about twice as fast: a Portuguese sentence has many characters
    that could start markup in some extension (`$`, `%`, `-`, `!`), and few that start it here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.terminator_re = inline_rules.STOPS
        self.ruler2.enableOnly(["balance_pairs", "strikethrough", "emphasis", "fragments_join"])

    def tokenize(self, state: StateInline) -> None:
        """Read from `state.pos` to `state.posMax` into tokens."""
        src, end = state.src, state.posMax
        find_stop, rules_at = self.terminator_re.search, inline_rules.RULES.get
        is_too_deep = state.level >= MAX_NESTING
        while state.pos < end:
            start = state.pos
            stop = None if is_too_deep else find_stop(src, start, end)
            if stop is None:
                state.append_pending(src[start:end])
                state.pos = end
                break
            at = stop.start()
            if at > start:
                state.append_pending(src[start:at])
                state.pos = at
            for rule in rules_at(src[at], ()):
                if rule(state, False):
                    break
            else:
                state.append_pending(src[at])
                state.pos = at + 1
        if state.pending:
            state.pushPending()

    def skipToken(self, state: StateInline) -> None:  # noqa: N802 (markdown-it-py's name)
        """Skip one token without creating it. This finds the end of a link's label."""
        start = state.pos
        known = state.cache.get(start)
        if known is not None:
            state.pos = known
            return
        if state.level >= MAX_NESTING:
            state.pos = state.posMax
        else:
            self._skip(state, start)
        state.cache[start] = state.pos

    def _skip(self, state: StateInline, start: int) -> None:
        stop = self.terminator_re.search(state.src, start, state.posMax)
        at = state.posMax if stop is None else stop.start()
        if at > start:
            state.pos = at
            return
        for rule in inline_rules.RULES.get(state.src[start], ()):
            state.level += 1
            is_found = rule(state, True)
            state.level -= 1
            if is_found:
                return
        state.pos = start + 1

    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        """Read one block's text into `tokens`. Most lines have no markup and become one token."""
        if self.terminator_re.search(src) is None:
            if src:
                tokens.append(Token("text", "", 0, content=src))
            return tokens
        return super().parse(src, md, env, tokens)


def _verbatim(url: str) -> str:
    return url


def _always(url: str) -> bool:
    return True


def _reader() -> MarkdownIt:
    reader = MarkdownIt(
        "zero",
        {"maxNesting": MAX_NESTING + 8, "strikethrough_single_tilde": True, "tasklists": True, "store_labels": True},
    )
    reader.inline = DispatchingInline()
    reader.core.ruler.enableOnly(["normalize", "block", "inline"])
    block_rules.install(reader)
    # Links must not change: no percent-encoding, no punycode. No scheme is dangerous, because no browser is involved.
    _replace(reader, "normalizeLink", _verbatim)
    _replace(reader, "normalizeLinkText", _verbatim)
    _replace(reader, "validateLink", _always)
    return reader


def _replace(reader: MarkdownIt, method: str, by: Callable[[str], Any]) -> None:
    setattr(reader, method, by)


_READER = _reader()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed text: the token stream, and the data that it does not contain."""

    tokens: list[Token]
    source: list[str]  # its lines, as the tokens' `map` counts them
    has_names: bool  # link definitions or footnotes
    inline_notes: Mapping[int, list[Token]]


def parse(markdown: str) -> Parsed:
    """Parse a text whose line ends are `\\n`. Threads may share this: it keeps no state between calls."""
    env: dict[str, Any] = {}
    tokens = _READER.parse(markdown, env)
    notes: Mapping[int, Mapping[str, list[Token]]] = env.get("footnotes", {}).get("list", {})
    inline_notes = {identity: note["tokens"] for identity, note in notes.items()}
    return Parsed(tokens, markdown.split("\n"), bool(env), inline_notes)
