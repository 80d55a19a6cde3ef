"""Converts the inline tokens of a block to lines of runs. The runs do not depend on the profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from markdown_it.token import Token

from eai_formatter.rendering.html import Effect, Tag, read_tag
from eai_formatter.rendering.links import address_of, says_the_same
from eai_formatter.rendering.profile import Profile
from eai_formatter.rendering.runs import CODE, EM, LINK, STRIKE, STRONG, Line, Run, text_of

__all__ = ["InlineReader", "NoteBook"]

_SPACE: Run = (0, " ")
_STYLE_OF_EFFECT = {Effect.STRONG: STRONG, Effect.EM: EM, Effect.STRIKE: STRIKE, Effect.HEADING: STRONG}


@dataclass(slots=True)
class NoteBook:
    """The footnotes of one text, numbered in the order of their first references."""

    written_inline: Mapping[int, list[Token]]  # by the parser's identity
    names: list[str] = field(default_factory=list)  # in order; the first is number 1
    inline: dict[str, list[Token]] = field(default_factory=dict)  # by name, those written where they are referred to
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The number of a note. The first reference assigns it."""
        if name not in self._numbers:
            self.names.append(name)
            self._numbers[name] = len(self.names)
        return self._numbers[name]

    def number_of(self, mark: Token) -> int:
        """The number of the note that a `footnote_ref` token names or contains."""
        label = mark.meta.get("label")
        if isinstance(label, str):
            return self.number(f"^{label}")
        identity = int(mark.meta["id"])
        self.inline[f"#{identity}"] = self.written_inline[identity]
        return self.number(f"#{identity}")


class InlineReader:
    """Reads the inline tokens of each block of one text, for one profile."""

    def __init__(self, profile: Profile, notes: NoteBook, star: int) -> None:
        self.profile = profile
        self.notes = notes
        self.star = star  # the style of a single star: EM in Markdown, STRONG in WhatsApp's own syntax

    def lines(self, tokens: list[Token], style: int = 0) -> list[Line]:
        """The block's lines. `style` applies to all of them, as in a heading."""
        if len(tokens) == 1 and tokens[0].type == "text":
            return [[(style, tokens[0].content)]]
        return _Reading(self, style).read(tokens)


_DIGITS = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")


def _raised(text: str) -> str:
    """Superscript text: digits become superscript digits; other text gets a caret."""
    return text.translate(_DIGITS) if set(text) <= set("0123456789+-") else f"^{text}"


class _Reading:
    """The state while reading one block: the lines so far, the open styles and the open links."""

    __slots__ = (
        "_base",
        "_code",
        "_depth",
        "_item",
        "_line",
        "_links",
        "_raised",
        "_reader",
        "_style",
        "_tags",
        "lines",
    )

    def __init__(self, reader: InlineReader, style: int) -> None:
        self._reader = reader
        self._base = self._style = style
        self._depth = {STRONG: 0, EM: 0, STRIKE: 0}  # a style may be open more than once: bold in a bold heading
        self._line: Line = []
        self.lines: list[Line] = [self._line]
        self._links: list[tuple[str, str, int, int]] = []  # href, title, line and run where the link's text starts
        self._tags = dict.fromkeys(_STYLE_OF_EFFECT, 0)  # open HTML tags
        self._code = 0  # open <code> tags
        self._item = 0  # the number of the next <li> in an <ol>, else 0
        self._raised = False  # in <sup>

    def read(self, tokens: Iterable[Token]) -> list[Line]:
        """Read all tokens into lines."""
        for token in tokens:
            kind = token.type
            if kind in ("text", "text_special"):
                if token.content:
                    self._say(token.content)
            else:
                _READERS[kind](self, token)
        if self._links:  # an <a> without its end
            self._close_link()
        return self.lines

    def _say(self, text: str) -> None:
        if self._code:
            self._verbatim(self._reader.profile.code(text, "`"))
        else:
            self._line.append((self._style, _raised(text) if self._raised else text))

    def _verbatim(self, text: str, kind: int = CODE) -> None:
        self._line.append((kind, text))

    def _break(self, token: Token | None = None) -> None:
        self._line = [(0, token.content)] if token is not None and token.content else []
        self.lines.append(self._line)

    def _soft_break(self, token: Token) -> None:
        """A line end in the source. After a tag that began a line of its own, there is no line to end."""
        if self._line or token.content:
            self._break(token)

    def _break_unless_at_start(self) -> None:
        if text_of(self._line).strip():
            self._break()

    def _shift(self, style: int, by: int) -> None:
        self._depth[style] += by
        self._style = self._base
        for each, depth in self._depth.items():
            if depth > 0:
                self._style |= each

    def _open_strong(self, token: Token) -> None:
        self._shift(STRONG, 1)

    def _close_strong(self, token: Token) -> None:
        self._shift(STRONG, -1)

    def _open_em(self, token: Token) -> None:
        self._shift(self._reader.star if token.markup == "*" else EM, 1)

    def _close_em(self, token: Token) -> None:
        self._shift(self._reader.star if token.markup == "*" else EM, -1)

    def _open_strike(self, token: Token) -> None:
        self._shift(STRIKE, 1)

    def _close_strike(self, token: Token) -> None:
        self._shift(STRIKE, -1)

    def _inline_code(self, token: Token) -> None:
        self._verbatim(self._reader.profile.code(token.content, token.markup))

    def _url(self, token: Token) -> None:
        self._verbatim(self._reader.profile.url(token.content), LINK)

    def _note_mark(self, token: Token) -> None:
        self._line.append((self._style, f"[{self._reader.notes.number_of(token)}]"))

    def _open_link(self, token: Token) -> None:
        self._start_link(str(token.attrs.get("href", "")), str(token.attrs.get("title", "")))

    def _start_link(self, href: str, title: str) -> None:
        self._links.append((href, title, len(self.lines) - 1, len(self._line)))

    def _close_link(self, token: Token | None = None) -> None:
        href, title, line, run = self._links.pop()
        said = [self.lines[line][run:], *self.lines[line + 1 :]]
        text = " ".join(text_of(part) for part in said).strip()
        address = address_of(href)
        if title and title != text:
            self._line.append((self._style, f" – {title}" if text else title))
            text = f"{text} – {title}"
        if not address:
            return
        if text and href not in (address, text) and says_the_same(text, address):
            return  # the author's form of a number or address can be tapped as well
        if not text or says_the_same(text, address):
            del self.lines[line + 1 :]
            del self.lines[line][run:]
            self._line = self.lines[line]
            self._verbatim(self._reader.profile.url(address), LINK)
        elif self._reader.profile.links_inline and len(said) == 1 and address == href:
            self.lines[line].insert(run, (LINK, "["))
            self._verbatim(f"]({self._reader.profile.target(address)})", LINK)
        else:
            self._say_address(address)

    def _say_address(self, address: str) -> None:
        escape = self._reader.profile.url
        self._verbatim(escape(f" ({address})") if self._line else escape(f"({address})"), LINK)

    def _image(self, token: Token) -> None:
        alt = " ".join(text_of(line) for line in self._reader.lines(token.children or [])).strip()
        self._show_image(alt, str(token.attrs.get("src", "")), str(token.attrs.get("title", "")))

    def _show_image(self, alt: str, address: str, title: str) -> None:
        caption = " – ".join(part for part in (alt, title if title != alt else "") if part)
        self._line.append((self._style, f"🖼 {caption}: " if caption else "🖼 "))
        self._verbatim(self._reader.profile.url(address), LINK)

    def _html(self, token: Token) -> None:
        tag = read_tag(token.content)
        if tag.effect in _TAG_READERS:
            _TAG_READERS[tag.effect](self, tag)
        elif tag.effect in _STYLE_OF_EFFECT:
            self._tag_style(tag)

    def _tag_style(self, tag: Tag) -> None:
        by = -1 if tag.is_closing else 1
        if self._tags[tag.effect] + by >= 0:
            self._tags[tag.effect] += by
            self._shift(_STYLE_OF_EFFECT[tag.effect], by)

    def _tag_break(self, tag: Tag) -> None:
        self._break()

    def _tag_line(self, tag: Tag) -> None:
        self._break_unless_at_start()

    def _tag_paragraph(self, tag: Tag) -> None:
        self._break_unless_at_start()
        if len(self.lines) > 1 and self.lines[-2]:
            self._break()

    def _tag_bullets(self, tag: Tag) -> None:
        self._break_unless_at_start()
        self._item = 0

    def _tag_numbers(self, tag: Tag) -> None:
        self._break_unless_at_start()
        self._item = 0 if tag.is_closing else 1

    def _tag_heading(self, tag: Tag) -> None:
        self._break_unless_at_start()
        self._tag_style(tag)

    def _tag_item(self, tag: Tag) -> None:
        self._break_unless_at_start()
        if not tag.is_closing:
            self._line.append((0, f"{self._item}. " if self._item else "- "))
            self._item += bool(self._item)

    def _tag_cell(self, tag: Tag) -> None:
        if tag.is_closing and self._line and self._line[-1] != _SPACE:
            self._line.append(_SPACE)

    def _tag_code(self, tag: Tag) -> None:
        self._code = max(0, self._code + (-1 if tag.is_closing else 1))

    def _tag_raised(self, tag: Tag) -> None:
        self._raised = not tag.is_closing

    def _tag_link(self, tag: Tag) -> None:
        if self._links:  # HTML links do not nest. Each closes only itself, so this stays linear
            self._close_link()
        if not tag.is_closing:
            self._start_link(tag.attribute("href"), "")

    def _tag_image(self, tag: Tag) -> None:
        self._show_image(tag.attribute("alt"), tag.attribute("src"), "")


_READERS: dict[str, Callable[[_Reading, Token], None]] = {
    "softbreak": _Reading._soft_break,
    "hardbreak": _Reading._break,
    "strong_open": _Reading._open_strong,
    "strong_close": _Reading._close_strong,
    "em_open": _Reading._open_em,
    "em_close": _Reading._close_em,
    "s_open": _Reading._open_strike,
    "s_close": _Reading._close_strike,
    "code_inline": _Reading._inline_code,
    "url": _Reading._url,
    "link_open": _Reading._open_link,
    "link_close": _Reading._close_link,
    "image": _Reading._image,
    "html_inline": _Reading._html,
    "footnote_ref": _Reading._note_mark,
}

_TAG_READERS: dict[Effect, Callable[[_Reading, Tag], None]] = {
    Effect.BREAK: _Reading._tag_break,
    Effect.LINE: _Reading._tag_line,
    Effect.PARAGRAPH: _Reading._tag_paragraph,
    Effect.BULLETS: _Reading._tag_bullets,
    Effect.NUMBERS: _Reading._tag_numbers,
    Effect.RAISED: _Reading._tag_raised,
    Effect.HEADING: _Reading._tag_heading,
    Effect.ITEM: _Reading._tag_item,
    Effect.CELL: _Reading._tag_cell,
    Effect.CODE: _Reading._tag_code,
    Effect.LINK: _Reading._tag_link,
    Effect.IMAGE: _Reading._tag_image,
}
