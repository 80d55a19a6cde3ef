"""What Redis holds of an accepted message, written in one round trip that messages of the same moment share."""

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

__all__ = ["AcceptanceStore", "PendingMessage", "Registration"]


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that is about to be published. `use` is the use of the client's Idempotency-Key, if it sent one."""

    event: Event
    first_stage: str
    estimate: str
    use: KeyUse | None = None

    @property
    def receipt(self) -> Promise:
        return Promise(self.event.message_id, self.event.timestamp, self.estimate)

    def resumed(self, receipt: Promise) -> PendingMessage:
        """The same message under the id that an earlier request with its key was given."""
        known = {"message_id": receipt.message_id, "timestamp": receipt.accepted_at}
        return replace(self, event=self.event.model_copy(update=known), estimate=receipt.estimate)


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of `register`: what the key stands for, and the reply to the client's rate limit, if it was asked."""

    claim: IdempotencyClaim
    limit_reply: object


@dataclass(frozen=True, slots=True)
class AcceptanceStore:
    """Each method raises StoreUnavailable soon: no client waits long for Redis."""

    batcher: CommandBatcher
    tasks: TaskStore
    activity: ActivityStore
    keys: IdempotencyStore
    mailboxes: Mailboxes | None  # None: the order of a user's messages is not kept

    async def register(self, message: PendingMessage, *, now: datetime, count: Call | None) -> Registration:
        """Write the message's state, claim its key, and count it against the client's rate limit.

        The caller must `unregister` it unless the claim is FirstUse.
        """
        counting = [] if count is None else [count]
        replies = await self.batcher.run(*counting, *self._claim_calls(message, now), *self._state_calls(message))
        limit_reply = replies[0] if counting else None
        claim = FirstUse() if message.use is None else self.keys.claimed(replies[len(counting)])
        return Registration(claim, limit_reply)

    async def count(self, count: Call) -> object:
        """Count a request without a message against the client's rate limit. Returns the limit's reply."""
        (reply,) = await self.batcher.run(count)
        return reply

    async def unregister(self, message: PendingMessage) -> None:
        """Undo `register` except for the key. The message was not published, and no client knows its id."""
        await self.batcher.run(*self._undo_calls(message))

    async def claim_key(self, message: PendingMessage, *, now: datetime) -> IdempotencyClaim:
        """Try again to claim the key."""
        (reply,) = await self.batcher.run(*self._claim_calls(message, now))
        return self.keys.claimed(reply)

    async def complete_key(self, message: PendingMessage) -> None:
        """Record that the message is published: its key stands for it from now on."""
        if message.use is not None:
            await self.batcher.run(self.keys.keep_call(message.use, message.event.message_id))

    async def release_key(self, message: PendingMessage, *, is_certain: bool) -> None:
        """Let the next request with the key publish the message. It gets the same id unless nothing was published.

        `is_certain` says that nothing was published. Without a key this only unregisters.
        """
        if message.use is None:
            await self.unregister(message)
        elif is_certain:
            await self.batcher.run(*self._undo_calls(message), self.keys.forget_call(message.use))
        else:
            await self.batcher.run(self.keys.hand_over_call(message.use))

    async def write_state(self, message: PendingMessage) -> None:
        """Write what `register` writes except for the key."""
        await self.batcher.run(*self._state_calls(message))

    def _state_calls(self, message: PendingMessage) -> list[Command | Call]:
        """To write one more thing for each message, add a command here, and one in `_undo_calls` that undoes it."""
        event = message.event
        calls: list[Command | Call] = [
            self.tasks.note_queued_call(event.message_id, stage=message.first_stage, at=event.timestamp),
            self.activity.note_command(event.user_number, at=event.timestamp),
        ]
        if self.mailboxes is not None:
            calls.append(self.mailboxes.enter_call(event.user_number, event.message_id, at=event.timestamp))
        return calls

    def _undo_calls(self, message: PendingMessage) -> list[Command | Call]:
        event = message.event
        calls: list[Command | Call] = [self.tasks.forget_command(event.message_id)]
        if self.mailboxes is not None:
            # The message that this makes first is not woken: the ladder returns it soon.
            calls.append(self.mailboxes.withdraw_call(event.user_number, event.message_id, at=event.timestamp))
        return calls

    def _claim_calls(self, message: PendingMessage, now: datetime) -> list[Command | Call]:
        return [] if message.use is None else [self.keys.claim_call(message.use, message.receipt, now=now)]
