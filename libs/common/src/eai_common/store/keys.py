"""The keys of what is kept about a user or a message."""

from __future__ import annotations

__all__ = ["message_key", "user_key"]


def user_key(kind: str, user_number: str) -> str:
    """The key of what is kept of that kind about a user. In Redis Cluster, all keys of a user are in one slot."""
    return f"{kind}:{{{user_number}}}"


def message_key(kind: str, message_id: str) -> str:
    """The key of what is kept of that kind about a message. In Redis Cluster, all keys of a message are in one slot."""
    return f"{kind}:{{{message_id}}}"
