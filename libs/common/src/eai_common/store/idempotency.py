"""Which message a client's Idempotency-Key stands for, so that a request that is sent again is no second message.

The first request with a key fixes the message's id before anything is published, and holds a short lease. Whoever finds
the lease over, with nobody having said how it ended, goes on with *the same id*: if the first one did publish before it
died, the stages know the second copy by its id. See docs/decisions/0007.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from eai_common.messages import rfc3339
from eai_common.store.scripts import Call, Script

__all__ = [
    "FirstUse",
    "IdempotencyClaim",
    "IdempotencyStore",
    "Kept",
    "KeyReused",
    "KeyUse",
    "Promise",
    "TakenOver",
    "UnderWay",
]

# KEYS: claim. ARGV: fingerprint, message id, accepted at, estimate, owner, now in ms, lease in ms, ttl in ms.
# Returns what holds: a word, then the promise, then how long the lease goes on in ms.
_CLAIM = """
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
"""

# KEYS: claim. ARGV: message id. Whoever published it, it is published.
_KEEP = """
if redis.call('HGET', KEYS[1], 'message_id') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'state', 'kept')
"""

# KEYS: claim. ARGV: owner, 1 to forget the key or 0 to leave its message id to the next who comes.
_GIVE_UP = """
local state = redis.call('HMGET', KEYS[1], 'state', 'owner')
if state[1] ~= 'under way' or state[2] ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then return redis.call('DEL', KEYS[1]) end
return redis.call('HSET', KEYS[1], 'lease', 0)
"""


@dataclass(frozen=True, slots=True)
class Promise:
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
class TakenOver:
    """An earlier use ended without a word: publish its message, which it may have done already."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An earlier use is being worked on; it says how that ended within `remaining`, or is taken over."""

    remaining: timedelta


@dataclass(frozen=True, slots=True)
class Kept:
    """The key's message was published."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key stands for another request."""


IdempotencyClaim = FirstUse | TakenOver | UnderWay | Kept | KeyReused


class IdempotencyStore:
    """Makes the calls, for a shared round trip, and reads what they return."""

    def __init__(self, *, lease: timedelta, ttl: timedelta) -> None:
        self._lease_ms = _ms(lease)
        self._ttl_ms = _ms(ttl)
        self._claim, self._keep, self._give_up = Script(_CLAIM), Script(_KEEP), Script(_GIVE_UP)

    def claim_call(self, use: KeyUse, promise: Promise, *, now: datetime) -> Call:
        """Take the key for `promise`, or learn what it stands for."""
        return self._claim.call(
            [_key(use)],
            [
                use.fingerprint,
                promise.message_id,
                rfc3339(promise.accepted_at),
                promise.estimate,
                use.owner,
                round(now.timestamp() * 1000),
                self._lease_ms,
                self._ttl_ms,
            ],
        )

    @staticmethod
    def claimed(reply: object) -> IdempotencyClaim:
        """What the reply to `claim_call` means."""
        word, message_id, accepted_at, estimate, left_ms = cast(tuple[bytes, bytes, bytes, bytes, int], reply)
        promise = Promise(message_id.decode(), datetime.fromisoformat(accepted_at.decode()), estimate.decode())
        match word:
            case b"first":
                return FirstUse()
            case b"taken over":
                return TakenOver(promise)
            case b"under way":
                return UnderWay(timedelta(milliseconds=left_ms))
            case b"kept":
                return Kept(promise)
        return KeyReused()

    def keep_call(self, use: KeyUse, message_id: str) -> Call:
        """The message is published: from now on the key stands for it."""
        return self._keep.call([_key(use)], [message_id])

    def forget_call(self, use: KeyUse) -> Call:
        """The message was certainly not published: the key is as new."""
        return self._give_up.call([_key(use)], [use.owner, 1])

    def hand_over_call(self, use: KeyUse) -> Call:
        """The message may or may not have been published: the next use goes on with its id."""
        return self._give_up.call([_key(use)], [use.owner, 0])


def _key(use: KeyUse) -> str:
    return f"idem:{use.client}:{use.key}"


def _ms(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))
