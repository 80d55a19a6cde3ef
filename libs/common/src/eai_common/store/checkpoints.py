"""What makes at-least-once delivery have its effect once: a lease while a stage works, a record when it has.

The lease is short and renewed, so that a dead replica's message is taken up soon; the record is what a redelivery
emits again instead of doing the work twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from eai_common.store.client import RedisClient
from eai_common.store.commands import Reply, Request, Script, command, milliseconds, together_all
from eai_common.store.errors import StoreUnavailable
from eai_common.store.keys import message_key

__all__ = ["Acquired", "Checkpoints", "Claim", "Completed", "Locked"]

_LEASE = b"lease:"
_DONE = b"done:"

# KEYS: checkpoint. ARGV: the lease's value, new ttl in ms. Extends (or, with ttl 0, ends) a lease that is still ours.
_IF_OURS = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")


@dataclass(frozen=True, slots=True)
class Acquired:
    """Nobody works on it: go on."""


@dataclass(frozen=True, slots=True)
class Locked:
    """Another delivery of the same message is being worked on; its lease ends in `remaining` unless it is renewed."""

    remaining: timedelta


@dataclass(frozen=True, slots=True)
class Completed:
    """It was done; `outcome` is what was recorded."""

    outcome: bytes


Claim = Acquired | Locked | Completed


class Checkpoints:
    """The checkpoints of one stage. Methods raise StoreUnavailable when Redis is out of reach."""

    def __init__(self, redis: RedisClient, *, stage: str, lease: timedelta, ttl: timedelta) -> None:
        self._redis = redis
        self._stage = stage
        self._lease = lease
        self._ttl = ttl
        self._held: dict[str, str] = {}

    async def claim(self, message_id: str, owner: str) -> Claim:
        """Take the lease, or learn why not, in one round trip. `owner` is unique to the delivery."""
        key, lease = self._key(message_id), _LEASE + owner.encode()
        claim = await self._redis.request(
            command("SET", key, lease, "NX", "PX", milliseconds(self._lease)),
            command("GET", key),
            command("PTTL", key),
            decode=lambda replies: _claim(replies, lease),
        )
        if isinstance(claim, Acquired):
            self._held[message_id] = owner
        return claim

    async def record(self, message_id: str, outcome: bytes) -> None:
        """The work is done; from now on a redelivery gets `outcome`."""
        # First, and also if the record fails: a lease that is renewed for ever would hold up every redelivery.
        self._held.pop(message_id, None)
        await self._write(message_id, _DONE + outcome)

    async def release(self, message_id: str, owner: str) -> None:
        """The work was not done: the next delivery may claim at once."""
        if self._held.get(message_id) == owner:
            del self._held[message_id]
        await self._if_held(message_id, _LEASE + owner.encode(), 0)

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """While this is open, the leases that are held are renewed, all in one round trip each time."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._renew_until(stop), name=f"{self._stage}/renew-leases")
            try:
                yield
            finally:
                # Both: a cancellation can get lost in the client when it meets the end of `asyncio.wait_for`
                # (source: python/cpython issue 86296, mended in 3.12), and the loop would go on for ever.
                stop.set()
                task.cancel()

    async def _renew_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._lease.total_seconds() / 3)
            # A lease that runs out while Redis is away costs at worst a second try; the record still decides.
            with suppress(StoreUnavailable):
                await self.renew()

    async def renew(self) -> None:
        """Renew the leases that are held, all in one round trip."""
        lease_ms = milliseconds(self._lease)
        held = [
            self._if_held(message_id, _LEASE + owner.encode(), lease_ms) for message_id, owner in self._held.items()
        ]
        if held:
            await together_all(held)

    def _if_held(self, message_id: str, value: bytes, ttl_ms: int) -> Request[None]:
        return self._redis.request(_IF_OURS.call([self._key(message_id)], [value, ttl_ms]))

    def _write(self, message_id: str, value: bytes) -> Request[None]:
        return self._redis.request(command("SET", self._key(message_id), value, "PX", milliseconds(self._ttl)))

    def _key(self, message_id: str) -> str:
        return f"{message_key('checkpoint', message_id)}:{self._stage}"


def _claim(replies: Sequence[Reply], lease: bytes) -> Claim:
    match replies:
        # It may be ours already: the client asks again by itself when an answer was lost on its way.
        case [_, bytes(value), _] if value == lease:
            return Acquired()
        case [_, bytes(value), _] if value.startswith(_DONE):
            return Completed(value.removeprefix(_DONE))
        case [None, _, int(remaining_ms)]:
            return Locked(timedelta(milliseconds=max(0, remaining_ms)))
        case _:
            return Acquired()  # it was set, and was gone at once
