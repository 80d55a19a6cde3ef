"""Message ids: UUIDv7 that carry a check mark, so that the poller knows an id of ours from one that never was.

Layout (RFC 9562, section 5.7): 48 bits of Unix milliseconds, version, 12 random bits, variant, 38 random bits, and in
the last 24 bits a keyed hash of everything before them. Any UUID library reads it as a version 7 UUID. Why:
docs/decisions/0002-message-ids-carry-a-check-mark.md.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from eai_common.clock import Clock

__all__ = ["Ids", "issued_at"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TAG_BITS = 24
_TAG_MASK = (1 << _TAG_BITS) - 1


class Ids:
    """Makes message ids. `random` is a SystemRandom, so that nobody can guess one; a seeded one in tests."""

    def __init__(self, clock: Clock, random: Random, key: bytes = b"") -> None:
        self._clock = clock
        self._key = key
        self._random_bits = random.getrandbits

    def message_id(self) -> str:
        """A new id, in the canonical 36 character form."""
        unix_ms = (self._clock.now() - _EPOCH) // _MILLISECOND
        head = unix_ms << 80 | 0x7 << 76 | self._random_bits(12) << 64 | 0b10 << 62 | self._random_bits(38) << _TAG_BITS
        return str(UUID(int=head | _tag(head, self._key)))

    def random_id(self) -> str:
        """A short random name for a process, a lease or a request: 32 hexadecimal digits."""
        return f"{self._random_bits(128):032x}"


def issued_at(message_id: UUID, key: bytes = b"") -> datetime | None:
    """When a gateway with this key issued the id; None when no such gateway did."""
    if message_id.version != 7 or message_id.int & _TAG_MASK != _tag(message_id.int & ~_TAG_MASK, key):
        return None
    try:
        return _EPOCH + (message_id.int >> 80) * _MILLISECOND
    except OverflowError:  # after the year 9999: no clock of ours said that
        return None


def _tag(head: int, key: bytes) -> int:
    digest = hashlib.blake2b(
        head.to_bytes(16, "big"), key=key[:64], digest_size=_TAG_BITS // 8, person=b"eai message id"
    ).digest()
    return int.from_bytes(digest, "big")
