"""How users are named: by a telephone number, and in one form everywhere, as it is also the key of their thread."""

from __future__ import annotations

import re

__all__ = ["OPAQUE_USER_NUMBER_PATTERN", "USER_NUMBER_PATTERN", "canonical_user_number"]

USER_NUMBER_PATTERN = r"^\+?[0-9]{8,15}$"
"""E.164, with or without the leading +."""

OPAQUE_USER_NUMBER_PATTERN = r"^[A-Za-z0-9_+.-]{1,64}$"
"""What clients of the predecessor may name a user by."""

_DIGITS = re.compile(r"\+?[0-9]{8,15}")
_OPAQUE = re.compile(r"[A-Za-z0-9_+.-]{1,64}")


def canonical_user_number(given: str, *, opaque_allowed: bool) -> str:
    """The number with its leading +. Raises ValueError with what it takes.

    `opaque_allowed`: clients of the predecessor may name a user by any id; it stays as it is.
    """
    if _DIGITS.fullmatch(given):
        return f"+{given.removeprefix('+')}"
    if opaque_allowed and _OPAQUE.fullmatch(given):
        return given
    raise ValueError("takes a number in E.164 form, 8 to 15 digits, with or without the leading +")
