"""Waiting for a message's end: long polls. Costs Redis a look at the start, one when woken, one at the end."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.types import Receive

from eai_common.clock import Deadline
from eai_common.http import ErrorBody, HttpError
from eai_common.store import StoreUnavailable, Wakeups, Watch
from eai_poller.answer import Answer, State
from eai_poller.lookup import Lookup

__all__ = ["LOOK_AGAIN_S", "TooManyWait", "Waiters", "gives_up_on_disconnect"]

_PLACE_FREE_IN_S = 5  # a long poll lasts 30 s at most, so that of many some end soon

LOOK_AGAIN_S = 1.0
"""After a look that Redis did not answer; the client refuses at once while it is down: this costs little."""


class TooManyWait(HttpError):
    """As many wait in this process as its settings allow."""

    def __init__(self) -> None:
        body = ErrorBody("Service unavailable", "Too many clients wait at the moment; please poll without waiting")
        super().__init__(503, body, headers={"Retry-After": str(_PLACE_FREE_IN_S)})


@dataclass(frozen=True, slots=True)
class Waiters:
    """Everyone who waits in this process: long polls and streams alike."""

    lookup: Lookup
    wakeups: Wakeups
    most: int

    def watch(self, message_id: UUID, *, wants_moves: bool = False) -> AbstractContextManager[Watch]:
        """A place to wait for the message, to be entered at once. Raises TooManyWait."""
        if len(self.wakeups) >= self.most:
            raise TooManyWait
        return self.wakeups.watch(str(message_id), wants_moves=wants_moves)

    async def final_answer(self, message_id: UUID, within: timedelta, receive: Receive) -> Answer:
        """The answer once it is no longer "processing", else the one that holds when `within` is over.

        Ends early when the client leaves or the service drains. Raises TooManyWait, and StoreUnavailable when nothing
        can be looked up at the start or at the end.
        """
        deadline = Deadline.after(within)
        with self.watch(message_id) as watch:
            answer = await self.lookup.answer(message_id)
            if answer.state is not State.PROCESSING:
                return answer
            async with gives_up_on_disconnect(watch, receive):
                return await self._waited(message_id, watch, deadline)

    async def _waited(self, message_id: UUID, watch: Watch, deadline: Deadline) -> Answer:
        patience_s = deadline.remaining_s()
        while True:
            await watch.changed(within_s=patience_s)
            is_last = watch.is_over or deadline.has_passed
            try:
                # Also when nobody woke us: the subscription may have been lost for all of the wait.
                answer = await self.lookup.answer(message_id)
            except StoreUnavailable:
                if is_last:
                    raise
                patience_s = min(LOOK_AGAIN_S, deadline.remaining_s())
                continue
            if answer.state is not State.PROCESSING or is_last:
                return answer
            patience_s = deadline.remaining_s()


class gives_up_on_disconnect:  # noqa: N801  # used like a function
    """While this is open, a client that leaves ends the watch: its place is free for another.

    A class and one bare task: a task group and two generators would be a fifth of what a waiter costs.
    """

    __slots__ = ("_reading",)

    def __init__(self, watch: Watch, receive: Receive) -> None:
        self._reading = asyncio.create_task(_until_left(watch, receive), name="disconnect")

    async def __aenter__(self) -> None:
        """Nothing more."""

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        if not self._reading.cancelled():
            self._reading.result()  # raises what went wrong while reading


async def _until_left(watch: Watch, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watch.give_up()
