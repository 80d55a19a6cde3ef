"""Which message a client's Idempotency-Key stands for, so that a request that is sent again is no second message.

The first request with a key fixes the message's id before anything is published, and holds a short lease. Whoever finds
the lease over, with nobody having said how it ended, goes on with *the same id*: if the first one did publish before it
died, the stages know the second copy by its id. See docs/decisions/0007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from eai_common.messages import rfc3339
from eai_common.store import RedisClient, Reply, Request, Script, milliseconds

__all__ = [
    "FirstUse",
    "IdempotencyClaim",
    "IdempotencyStore",
    "InProgress",
    "KeyReused",
    "KeyUse",
    "Receipt",
    "Replayed",
    "Resumed",
]

# KEYS: claim. ARGV: fingerprint, message id, accepted at, estimate, owner, now in ms, lease in ms, ttl in ms.
# Returns what holds: a word, then the receipt, then how long the lease goes on in ms.
_CLAIM = Script("""
local key, now = KEYS[1], tonumber(ARGV[6])
local kept = redis.call('HMGET', key, 'fingerprint', 'message_id', 'accepted_at', 'estimate', 'state', 'owner', 'lease')
local function hold()
  redis.call('HSET', key, 'owner', ARGV[5], 'lease', now + tonumber(ARGV[7]))
end
if not kept[1] then
  redis.call('HSET', key, 'fingerprint', ARGV[1], 'message_id', ARGV[2], 'accepted_at', ARGV[3], 'estimate', ARGV[4],
    'state', 'under way')
  hold()
  redis.call('PEXPIRE', key, ARGV[8])
  return {'first', ARGV[2], ARGV[3], ARGV[4], 0}
end
local word, left = 'under way', tonumber(kept[7]) - now
if kept[1] ~= ARGV[1] then word = 'reused'
elseif kept[5] == 'kept' then word = 'kept'
elseif kept[6] == ARGV[5] then word = kept[2] == ARGV[2] and 'first' or 'taken over'
elseif left <= 0 then
  word = 'taken over'
  hold()
end
return {word, kept[2], kept[3], kept[4], math.max(0, left)}
""")

# KEYS: claim. ARGV: message id. Whoever published it, it is published.
_COMPLETE = Script("""
if redis.call('HGET', KEYS[1], 'message_id') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'state', 'kept')
""")

# KEYS: claim. ARGV: owner, 1 to forget the key or 0 to leave its message id to the next who comes.
_RELEASE = Script("""
local state = redis.call('HMGET', KEYS[1], 'state', 'owner')
if state[1] ~= 'under way' or state[2] ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then return redis.call('DEL', KEYS[1]) end
return redis.call('HSET', KEYS[1], 'lease', 0)
""")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client was, or will be, told about its message."""

    message_id: str
    accepted_at: datetime
    estimate: str


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One use of a key: `client` is whose key it is, `fingerprint` stands for the request, `owner` for this use."""

    client: str
    key: str
    fingerprint: str
    owner: str


@dataclass(frozen=True, slots=True)
class FirstUse:
    """The key is new: publish your own message."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """An earlier use ended without a word: publish its message, which it may have done already."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class InProgress:
    """An earlier use is being worked on; it records how it ended within `remaining`, or is resumed."""

    remaining: timedelta


@dataclass(frozen=True, slots=True)
class Replayed:
    """The key's message was published."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key stands for another request."""


IdempotencyClaim = FirstUse | Resumed | InProgress | Replayed | KeyReused


class IdempotencyStore:
    """The keys of all clients."""

    def __init__(self, redis: RedisClient, *, lease: timedelta, ttl: timedelta) -> None:
        self._redis = redis
        self._lease_ms = milliseconds(lease)
        self._ttl_ms = milliseconds(ttl)

    def claim(self, use: KeyUse, receipt: Receipt, *, now: datetime) -> Request[IdempotencyClaim]:
        """Take the key for the message of `receipt`, or learn what it stands for."""
        args = (
            use.fingerprint,
            receipt.message_id,
            rfc3339(receipt.accepted_at),
            receipt.estimate,
            use.owner,
            round(now.timestamp() * 1000),
            self._lease_ms,
            self._ttl_ms,
        )
        return self._redis.request(_CLAIM.call([_key(use)], args), decode=_claimed)

    def complete(self, use: KeyUse, message_id: str) -> Request[None]:
        """Record that the message is published: from now on the key stands for it."""
        return self._redis.request(_COMPLETE.call([_key(use)], [message_id]))

    def forget(self, use: KeyUse) -> Request[None]:
        """Make the key as new: its message was certainly not published."""
        return self._redis.request(_RELEASE.call([_key(use)], [use.owner, 1]))

    def hand_over(self, use: KeyUse) -> Request[None]:
        """Let the next use go on with the message's id: it may or may not have been published."""
        return self._redis.request(_RELEASE.call([_key(use)], [use.owner, 0]))


def _claimed(replies: Sequence[Reply]) -> IdempotencyClaim:
    word, message_id, accepted_at, estimate, left_ms = cast(tuple[bytes, bytes, bytes, bytes, int], replies[0])
    receipt = Receipt(message_id.decode(), datetime.fromisoformat(accepted_at.decode()), estimate.decode())
    match word:
        case b"first":
            return FirstUse()
        case b"taken over":
            return Resumed(receipt)
        case b"under way":
            return InProgress(timedelta(milliseconds=left_ms))
        case b"kept":
            return Replayed(receipt)
    return KeyReused()


def _key(use: KeyUse) -> str:
    return f"idem:{use.client}:{use.key}"
