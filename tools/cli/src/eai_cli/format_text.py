"""`./eai format`: Markdown in, the pieces that a channel would send, out."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from eai_formatter.rendering import PLAIN_TEXT, TELEGRAM, WHATSAPP, Profile, format_reply

__all__ = ["PROFILES", "run_format"]

PROFILES: dict[str, Profile] = {"whatsapp": WHATSAPP, "plain": PLAIN_TEXT, "telegram": TELEGRAM}
_WRONG_INPUT = 2


def run_format(path: Path | None, *, profile: str, limit: int, as_json: bool, as_jsonl: bool) -> int:
    """Print the pieces, as JSON or in a terminal with rules between them; gives the exit code."""
    source = path.read_bytes() if path is not None else sys.stdin.buffer.read()
    try:
        return _format_lines(source, profile, limit) if as_jsonl else _format_whole(source, profile, limit, as_json)
    except UnicodeDecodeError as error:
        sys.stderr.write(f"eai format: the input is not UTF-8: {error.reason} at byte {error.start}\n")
        return _WRONG_INPUT


def _format_whole(source: bytes, profile: str, limit: int, as_json: bool) -> int:
    pieces = format_reply(source.decode(), profile=PROFILES[profile], limit=limit).contents
    if as_json:
        _write(orjson.dumps(pieces) + b"\n")
    else:
        _write(_rule(len(pieces)).join(pieces).encode() + b"\n")
    return 0


def _format_lines(source: bytes, profile: str, limit: int) -> int:
    for number, line in enumerate(source.splitlines(), start=1):
        try:
            text = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            sys.stderr.write(f"eai format: line {number} is not JSON: {error.msg}\n")
            return _WRONG_INPUT
        if not isinstance(text, str):
            sys.stderr.write(f"eai format: line {number} is {type(text).__name__}, takes a JSON string\n")
            return _WRONG_INPUT
        _write(orjson.dumps(format_reply(text, profile=PROFILES[profile], limit=limit).contents) + b"\n")
    return 0


def _rule(pieces: int) -> str:
    """The text between two pieces: nothing in a pipe, where the joined pieces are the whole text."""
    return f"\n{'─' * 30} one of {pieces} messages {'─' * 30}\n" if sys.stdout.isatty() else ""


def _write(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
