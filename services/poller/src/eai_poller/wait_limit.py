"""Long polls, and the limit on clients that wait. A long poll reads Redis at its start, when woken and at its end."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.types import Receive

from eai_common.clock import Deadline
from eai_common.http import ErrorBody, HttpError
from eai_common.store import StoreUnavailable, Subscription, Wakeups
from eai_poller.answer import Answer, State
from eai_poller.lookup import Lookup

__all__ = ["READ_AGAIN_S", "TooManyWaiting", "WaitLimit", "end_on_disconnect"]

_RETRY_AFTER_S = 5  # a long poll lasts 30 s at most, so some of many end soon

READ_AGAIN_S = 1.0
"""The pause after a failed read. A read costs little while Redis is down: the client refuses it at once."""


class TooManyWaiting(HttpError):
    """The number of clients that wait in this process has reached its limit."""

    def __init__(self) -> None:
        body = ErrorBody("Service unavailable", "Too many clients are waiting. Poll without waiting")
        super().__init__(503, body, headers={"Retry-After": str(_RETRY_AFTER_S)})


@dataclass(frozen=True, slots=True)
class WaitLimit:
    """Admits clients that wait in this process, by long poll or by stream; at most `most` at a time."""

    lookup: Lookup
    wakeups: Wakeups
    most: int

    def subscribe(self, message_id: UUID, *, wants_moves: bool = False) -> AbstractContextManager[Subscription]:
        """Wait for changes of the message; enter the context at once. Raises TooManyWaiting."""
        if len(self.wakeups) >= self.most:
            raise TooManyWaiting
        return self.wakeups.subscribe(str(message_id), wants_moves=wants_moves)

    async def final_answer(self, message_id: UUID, within: timedelta, receive: Receive) -> Answer:
        """The answer once the message has ended; else the answer after `within`.

        Ends early if the client disconnects or the service drains. Raises TooManyWaiting, and StoreUnavailable if the
        read at the start or at the end fails.
        """
        deadline = Deadline.after(within)
        with self.subscribe(message_id) as subscription:
            answer = await self.lookup.answer(message_id)
            if answer.state is not State.PROCESSING:
                return answer
            async with end_on_disconnect(subscription, receive):
                return await self._wait(message_id, subscription, deadline)

    async def _wait(self, message_id: UUID, subscription: Subscription, deadline: Deadline) -> Answer:
        max_wait_s = deadline.remaining_s()
        while True:
            await subscription.changed(within_s=max_wait_s)
            is_last = subscription.is_over or deadline.has_passed
            try:
                # Read even without a wake-up: the subscription may have been lost all the while.
                answer = await self.lookup.answer(message_id)
            except StoreUnavailable:
                if is_last:
                    raise
                max_wait_s = min(READ_AGAIN_S, deadline.remaining_s())
                continue
            if answer.state is not State.PROCESSING or is_last:
                return answer
            max_wait_s = deadline.remaining_s()


class end_on_disconnect:  # noqa: N801  # used like a function
    """Ends the subscription when the client disconnects, so that another client may wait.

    This is a class with one task because a task group and two generators would be a fifth of the cost of a waiter.
    """

    __slots__ = ("_reading",)

    def __init__(self, subscription: Subscription, receive: Receive) -> None:
        self._reading = asyncio.create_task(_end_after_disconnect(subscription, receive), name="disconnect")

    async def __aenter__(self) -> None:
        """The task has started."""

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        if not self._reading.cancelled():
            self._reading.result()  # raises the error of a failed read


async def _end_after_disconnect(subscription: Subscription, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.give_up()
