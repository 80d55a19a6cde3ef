"""What Redis is told of a message that comes in: all of it in one round trip, shared with others that come then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from eai_common.messages import Event
from eai_common.store import (
    ActivityStore,
    Call,
    CommandBatcher,
    FirstUse,
    IdempotencyClaim,
    IdempotencyStore,
    KeyUse,
    Mailboxes,
    Promise,
    TaskStore,
)
from eai_common.store.batch import Command

__all__ = ["Books", "Entered", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that is about to be published. `use` is that of the client's Idempotency-Key, if it sent one."""

    event: Event
    stage: str  # the first that will have it
    estimate: str
    use: KeyUse | None = None

    @property
    def promise(self) -> Promise:
        return Promise(self.event.message_id, self.event.timestamp, self.estimate)

    def of(self, promise: Promise) -> Entry:
        """The same message, under the id that was promised for it before."""
        known = {"message_id": promise.message_id, "timestamp": promise.accepted_at}
        return replace(self, event=self.event.model_copy(update=known), estimate=promise.estimate)


@dataclass(frozen=True, slots=True)
class Entered:
    """What came of entering a message: what its key stands for, and the limit's reply, if one was asked."""

    claim: IdempotencyClaim
    counted: object


@dataclass(frozen=True, slots=True)
class Books:
    """Methods raise StoreUnavailable, soon: no client waits long for Redis."""

    batcher: CommandBatcher
    tasks: TaskStore
    activity: ActivityStore
    keys: IdempotencyStore
    mailboxes: Mailboxes | None  # None: the order of a user's messages is not kept

    async def enter(self, entry: Entry, *, now: datetime, count: Call | None) -> Entered:
        """Write down everything about the message, take its key, and count it against the client's limit.

        For any claim but FirstUse: `withdraw` it then.
        """
        counting = [] if count is None else [count]
        replies = await self.batcher.run(*counting, *self._claim(entry, now), *self._written(entry))
        counted = replies[0] if counting else None
        return Entered(FirstUse() if entry.use is None else self.keys.claimed(replies[len(counting)]), counted)

    async def count(self, count: Call) -> object:
        """Count a request that is not entered; gives the limit's reply."""
        (reply,) = await self.batcher.run(count)
        return reply

    async def withdraw(self, entry: Entry) -> None:
        """Undo `enter`, but for the key: the message was not published under this id, and nobody knows the id."""
        await self.batcher.run(*self._undoing(entry))

    async def claim(self, entry: Entry, *, now: datetime) -> IdempotencyClaim:
        """Ask for the key again."""
        (reply,) = await self.batcher.run(*self._claim(entry, now))
        return self.keys.claimed(reply)

    async def keep(self, entry: Entry) -> None:
        """The message is published: its key stands for it."""
        if entry.use is not None:
            await self.batcher.run(self.keys.keep_call(entry.use, entry.event.message_id))

    async def give_up(self, entry: Entry, *, is_certain: bool) -> None:
        """The message was not published; unless that is certain, its id is left to the next who uses the key."""
        if entry.use is None:
            await self.withdraw(entry)
        elif is_certain:
            await self.batcher.run(*self._undoing(entry), self.keys.forget_call(entry.use))
        else:
            await self.batcher.run(self.keys.hand_over_call(entry.use))

    async def write(self, entry: Entry) -> None:
        """Write down everything about the message but its key."""
        await self.batcher.run(*self._written(entry))

    def _written(self, entry: Entry) -> list[Command | Call]:
        """One more thing to write for each message is one more command here, and its undoing in `_undoing`."""
        event = entry.event
        commands: list[Command | Call] = [
            self.tasks.note_queued_call(event.message_id, stage=entry.stage, at=event.timestamp),
            self.activity.note_command(event.user_number, at=event.timestamp),
        ]
        if self.mailboxes is not None:
            commands.append(self.mailboxes.enter_call(event.user_number, event.message_id, at=event.timestamp))
        return commands

    def _undoing(self, entry: Entry) -> list[Command | Call]:
        event = entry.event
        commands: list[Command | Call] = [self.tasks.forget_command(event.message_id)]
        if self.mailboxes is not None:
            # What it says is to be woken now comes out of the ladder by itself.
            commands.append(self.mailboxes.withdraw_call(event.user_number, event.message_id, at=event.timestamp))
        return commands

    def _claim(self, entry: Entry, now: datetime) -> list[Command | Call]:
        return [] if entry.use is None else [self.keys.claim_call(entry.use, entry.promise, now=now)]
