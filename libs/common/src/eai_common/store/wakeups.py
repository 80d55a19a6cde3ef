"""Tells whoever waits for a message that it has moved or ended, so that waiting costs no polling of Redis.

The scripts that write a task's status publish its id on one channel. A process holds one subscription to it, however
many wait, and wakes those that wait for that id. A wake-up says "look", never what there is to see: so one that comes
twice does no harm, and one that was missed while the subscription was lost is made up for by waking everybody.
Why one channel: docs/decisions/0008-waiting-without-polling.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from redis.asyncio.client import PubSub
from redis.exceptions import NoPermissionError

from eai_common.background import run_alongside
from eai_common.store.client import RedisClient
from eai_common.store.errors import StoreUnavailable, map_redis_errors
from eai_common.telemetry import get_logger

__all__ = ["PUBLISH_FINISHED", "PUBLISH_MOVED", "Wakeups", "Subscription", "open_wakeups"]

log = get_logger("eai.store.wakeups")

_CHANNEL = "wakeups"

# For scripts whose KEYS[1] has the message id as its hash tag. `pcall`: a Redis user that may not publish must not keep
# a result from being stored.
_PUBLISH = f"redis.pcall('PUBLISH', '{_CHANNEL}', '%s' .. string.match(KEYS[1], '{{(.-)}}'))"
PUBLISH_FINISHED = _PUBLISH % "F"
"""Lua that wakes everyone who waits for the message."""
PUBLISH_MOVED = _PUBLISH % "M"
"""Lua that wakes those who want to know of every move."""

_SILENCE = timedelta(seconds=10)
_RETRY_FIRST, _RETRY_MOST = timedelta(milliseconds=100), timedelta(seconds=2)
_REFUSED_RETRY = timedelta(seconds=30)


class Subscription:
    """One waiter's view of one message. Thousands are held at a time, so it is kept small."""

    __slots__ = ("_has_news", "_hub", "_is_given_up", "_waiting", "message_id", "wants_moves")

    def __init__(self, hub: Wakeups, message_id: str, *, wants_moves: bool) -> None:
        self.message_id = message_id
        self.wants_moves = wants_moves
        self._hub = hub
        self._has_news = False
        self._is_given_up = False
        self._waiting: asyncio.Future[bool] | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left to wait: the process drains, or whoever asked has gone."""
        return self._is_given_up or self._hub.has_ended

    async def changed(self, *, within_s: float) -> bool:
        """True once there may be something new since the last call, False when the time is up or waiting has ended."""
        if self._has_news:
            self._has_news = False
            return True
        if self.is_over or within_s <= 0:
            return False
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(within_s, self.end)
        try:
            return await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    def wake(self) -> None:
        """There may be something new."""
        if self._waiting is None or self._waiting.done():
            self._has_news = True
        else:
            self._waiting.set_result(True)

    def give_up(self) -> None:
        """Whoever asked has gone."""
        self._is_given_up = True
        self.end()

    def end(self) -> None:
        """Nothing new will come in time."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(False)


class Wakeups:
    """The process's subscription, and those who wait. It subscribes when the first one comes.

    After `silence` the server is asked whether it is there; when that too is met with silence, it is not.
    """

    def __init__(self, redis: RedisClient, *, silence: timedelta = _SILENCE) -> None:
        self._redis = redis.driver
        self._silence_s = silence.total_seconds()
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._count = 0
        self._is_wanted = asyncio.Event()
        self.has_ended = False

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    @contextmanager
    def subscribe(self, message_id: str, *, wants_moves: bool = False) -> Iterator[Subscription]:
        """Subscribe before the first look at the message: what changes between the two then wakes.

        Every waiter looks again once the subscription stands, so it is right to begin before it does. `message_id` is
        in the canonical form.
        """
        subscription = Subscription(self, message_id, wants_moves=wants_moves)
        self._subscriptions.setdefault(message_id, []).append(subscription)
        self._count += 1
        self._is_wanted.set()
        try:
            yield subscription
        finally:
            self._count -= 1
            others = self._subscriptions[message_id]
            others.remove(subscription)
            if not others:
                del self._subscriptions[message_id]

    def end_waiting(self) -> None:
        """Let every waiter go at once, and from now on let nobody wait: the service drains."""
        self.has_ended = True
        for subscription in self._everyone():
            subscription.end()

    async def listen(self) -> None:
        """Hold the subscription until waiting ends; one that is lost is taken up again."""
        pause = _RETRY_FIRST
        while not self.has_ended:
            await self._is_wanted.wait()
            try:
                await self._subscribed()
            except StoreUnavailable as error:
                if isinstance(error.__cause__, NoPermissionError):
                    log.error("wakeups_refused", error=str(error.__cause__))  # waits last to their end, and are right
                    await asyncio.sleep(_REFUSED_RETRY.total_seconds())
                    continue
                log.warning("wakeups_lost", error=str(error), waiting=len(self))
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 2, _RETRY_MOST)
            else:
                pause = _RETRY_FIRST

    async def _subscribed(self) -> None:
        """One subscription, to its end. Raises StoreUnavailable."""
        with map_redis_errors():
            async with self._redis.pubsub() as pubsub:
                async with asyncio.timeout(self._silence_s):
                    await pubsub.subscribe(_CHANNEL)
                await self._read(pubsub)

    async def _read(self, pubsub: PubSub) -> None:
        is_asked = False
        while not self.has_ended:
            message = await pubsub.get_message(timeout=self._silence_s)
            if message is not None:
                is_asked = False
                self._take(message)
            elif is_asked:
                raise StoreUnavailable(f"Redis: no sign of life for {2 * self._silence_s:g} s")
            else:
                is_asked = True
                await pubsub.ping()

    def _take(self, message: Mapping[str, object]) -> None:
        data = message["data"]
        # The client also subscribes again by itself when it has reconnected, and it shows only by this.
        if message["type"] == "subscribe":
            for subscription in self._everyone():
                subscription.wake()
        elif message["type"] == "message" and isinstance(data, bytes):
            for subscription in self._subscriptions.get(data[1:].decode(errors="replace"), ()):
                if subscription.wants_moves or data.startswith(b"F"):
                    subscription.wake()

    def _everyone(self) -> list[Subscription]:
        return [one for subscriptions in self._subscriptions.values() for one in subscriptions]


@asynccontextmanager
async def open_wakeups(redis: RedisClient, *, silence: timedelta = _SILENCE) -> AsyncIterator[Wakeups]:
    """Wake-ups for this process, on a connection of their own from the client's pool once somebody waits."""
    wakeups = Wakeups(redis, silence=silence)
    async with run_alongside({"wakeups": wakeups.listen()}):
        try:
            yield wakeups
        finally:
            wakeups.end_waiting()
