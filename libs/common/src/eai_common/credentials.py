"""Who may do what: the roles, and the API tokens that carry one. A token is kept as its hash only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["TOKENS_IN_WORDS", "ApiToken", "Role", "parse_api_tokens"]

_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

TOKENS_IN_WORDS = (
    "tokens separated by commas, each as token or name:role:token, with the role read_only, message_sender or admin; "
    "sha256:<64 hex digits> stands for a token that is not written down"
)
"""What API_TOKEN takes, in words."""


class Role(Enum):
    """What a caller may do; each may do what those before it may."""

    READ_ONLY = "read_only"
    MESSAGE_SENDER = "message_sender"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Whether this role is enough where `needed` is asked for."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One entry of API_TOKEN. A token without a name goes by the beginning of its hash."""

    digest: bytes
    role: Role
    name: str


def parse_api_tokens(text: str) -> tuple[ApiToken, ...]:
    """The entries of API_TOKEN; a plain one is an admin's. Raises ValueError, which never holds a token."""
    tokens = tuple(_entry(entry.strip()) for entry in text.split(",") if entry.strip())
    if len({token.digest for token in tokens}) < len(tokens):
        raise ValueError("the same token twice")
    return tokens


def _entry(entry: str) -> ApiToken:
    if entry.startswith("sha256:") or entry.count(":") < 2:
        digest = _digest(entry)
        return ApiToken(digest, Role.ADMIN, f"token-{digest.hex()[:8]}")
    name, role, token = entry.split(":", 2)
    if not _NAME.fullmatch(name) or not token:
        raise ValueError("an entry without a name or without a token")
    return ApiToken(_digest(token), Role(role), name)


def _digest(token: str) -> bytes:
    if not token.startswith("sha256:"):
        return hashlib.sha256(token.encode()).digest()
    if (hashed := _HASHED.fullmatch(token)) is None:
        raise ValueError("a hash that is not sha256: and 64 hex digits")
    return bytes.fromhex(hashed[1])
