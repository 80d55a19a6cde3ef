"""Takes secrets and users' numbers out of what is written: log lines, spans and the evidence of a dead letter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

__all__ = ["masked_number", "redacted", "redacted_fields"]

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|authorization|api_?key|cookie|credential|signature", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/?#\s]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
# In a query (`token=…`) or in the text form of JSON or a dict (`"token": "…"`).
_NAMED_SECRET = re.compile(
    r"""((?:password|passwd|secret|token|api[_-]?key|credential|signature)(?:=|["']\s*:\s*["']))[^\s&"',;]+""",
    re.IGNORECASE,
)
# A UUID is found first and kept: its last group may look like a number. Digits inside a longer word or behind a
# decimal point are none.
_PHONE_NUMBER = re.compile(
    r"(?P<uuid>(?<![^\W_])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![^\W_]))"
    r"|\+[0-9]{8,15}(?![0-9])"
    r"|(?<![^\W_])(?<![0-9]\.)[0-9]{10,15}(?![^\W_])(?!\.[0-9])",
    re.IGNORECASE,
)
_DIGITS_AS_ZEROS = bytes(ord("0") if byte in b"0123456789" else ord("x") for byte in range(256))
_HIDDEN = "[hidden]"
_NUMBERS = (int, float, type(None))


def masked_number(number: str) -> str:
    """A user's number with its middle hidden: `+55•••••1234`. Shorter ones and opaque ids keep less, or nothing."""
    if len(number) < 6:
        return "•••"
    if len(number) < 12:
        return f"{number[:2]}•••{number[-2:]}"
    return f"{number[:3]}•••••{number[-4:]}"


def redacted(value: object, *, mask_numbers: bool = True) -> object:
    """The value without secrets and users' numbers, at any depth. Objects other than containers become their text."""
    if isinstance(value, str):
        return _redacted_text(value, mask_numbers)
    if isinstance(value, (*_NUMBERS, datetime)):
        return value
    if isinstance(value, Mapping):
        return redacted_fields(value, mask_numbers=mask_numbers)
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item, mask_numbers=mask_numbers) for item in value]
    # The renderer must not do this: the text of an object, an exception say, would then come after the redaction.
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return _redacted_text(text, mask_numbers)


def redacted_fields(fields: Mapping[str, object], *, mask_numbers: bool = True) -> dict[str, object]:
    """The fields redacted, each by its name and its value."""
    clean: dict[str, object] = {}
    for key, value in fields.items():
        name, is_secret, is_number = _judged(str(key), mask_numbers)
        if isinstance(value, _NUMBERS):
            clean[name] = value
        elif is_secret:
            clean[name] = _hidden(value)
        elif not isinstance(value, str):
            clean[name] = redacted(value, mask_numbers=mask_numbers)
        elif is_number:
            clean[name] = value if "•" in value else masked_number(value)
        else:
            clean[name] = _redacted_text(value, mask_numbers)
    return clean


# Names repeat, as the calls to the log do.
@lru_cache(maxsize=1024)
def _judged(name: str, mask_numbers: bool) -> tuple[str, bool, bool]:
    """The name redacted; whether it names a secret; whether it names a user's number that is to be masked."""
    is_number = mask_numbers and name in ("user", "user_number")
    return _redacted_text(name, mask_numbers), _SECRET_NAME.search(name) is not None, is_number


def _redacted_text(text: str, mask_numbers: bool) -> str:
    # Every line of the log comes through here, so what most texts lack is looked for before the slow searches.
    if text.isalnum() and not text.isdecimal():
        return text  # one word; digits inside of it are no number
    if ":" in text or "=" in text or " " in text or not text.isprintable():
        text = _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", text)
        text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
        text = _NAMED_SECRET.sub(rf"\1{_HIDDEN}", text)
    if mask_numbers and b"00000000" in text.encode(errors="replace").translate(_DIGITS_AS_ZEROS):
        text = _PHONE_NUMBER.sub(_masked_match, text)
    return text


def _masked_match(found: re.Match[str]) -> str:
    return found[0] if found["uuid"] else masked_number(found[0])


def _hidden(value: object) -> object:
    """Only numbers stay, which are counts of tokens, and the number of items."""
    if isinstance(value, _NUMBERS):
        return value
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(item) for item in value]
    return _HIDDEN
