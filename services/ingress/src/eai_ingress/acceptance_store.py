"""What Redis holds of an accepted message, written in one round trip that messages of the same moment share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from eai_common.guards import Taken
from eai_common.messages import Event
from eai_common.store import ActivityStore, RedisClient, Request, TaskStore, together, together_all
from eai_common.turns.bodies import inbox_message
from eai_common.turns.settings import OrderingSettings
from eai_common.turns.store import InboxStore
from eai_ingress.idempotency import FirstUse, IdempotencyClaim, IdempotencyStore, KeyUse, Receipt

__all__ = ["AcceptanceStore", "PendingMessage", "Registration"]


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that is about to be published. `use` is the use of the client's Idempotency-Key, if it sent one."""

    event: Event
    first_stage: str
    estimate: str
    use: KeyUse | None = None

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.event.message_id, self.event.timestamp, self.estimate)

    def resumed(self, receipt: Receipt) -> PendingMessage:
        """The same message under the id that an earlier request with its key was given."""
        known = {"message_id": receipt.message_id, "timestamp": receipt.accepted_at}
        return replace(self, event=self.event.model_copy(update=known), estimate=receipt.estimate)


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of `register`: what the key stands for, and what the client's rate limit says, if it was asked."""

    claim: IdempotencyClaim
    taken: Taken | None


@dataclass(frozen=True, slots=True)
class AcceptanceStore:
    """Each method raises StoreUnavailable soon: no client waits long for Redis."""

    redis: RedisClient
    tasks: TaskStore
    activity: ActivityStore
    keys: IdempotencyStore
    inboxes: InboxStore
    ordering: OrderingSettings

    async def register(
        self, message: PendingMessage, *, now: datetime, count: Request[Taken] | None = None
    ) -> Registration:
        """Write the message's state, claim its key, and count it against the client's rate limit.

        The caller must `unregister` it unless the claim is FirstUse.
        """
        taken, claim, _ = await together(
            self.redis.known(None) if count is None else count, self.claim_key(message, now=now), self._state(message)
        )
        return Registration(claim, taken)

    async def unregister(self, message: PendingMessage) -> None:
        """Undo `register` except for the key. The message was not published, and no client knows its id."""
        await self._undo(message)

    def claim_key(self, message: PendingMessage, *, now: datetime) -> Request[IdempotencyClaim]:
        """Try to claim the key. Without one, the message is the first."""
        if message.use is None:
            return self.redis.known(FirstUse())
        return self.keys.claim(message.use, message.receipt, now=now)

    async def complete_key(self, message: PendingMessage) -> None:
        """Record that the message is published: its key stands for it from now on."""
        if message.use is not None:
            await self.keys.complete(message.use, message.event.message_id)

    async def release_key(self, message: PendingMessage, *, is_certain: bool) -> None:
        """Let the next request with the key publish the message. It gets the same id unless nothing was published.

        `is_certain` says that nothing was published. Without a key this only unregisters.
        """
        if message.use is None:
            await self._undo(message)
        elif is_certain:
            await together(self._undo(message), self.keys.forget(message.use))
        else:
            await self.keys.hand_over(message.use)

    async def write_state(self, message: PendingMessage) -> None:
        """Write what `register` writes except for the key."""
        await self._state(message)

    def _state(self, message: PendingMessage) -> Request[object]:
        """To write one more thing for each message, add a request here, and one in `_undo` that undoes it."""
        event = message.event
        requests: list[Request[object]] = [
            self.tasks.note_queued(event.message_id, stage=message.first_stage, at=event.timestamp),
            self.activity.note(event.user_number, at=event.timestamp),
        ]
        if self.ordering.ordering_enabled:
            entry = inbox_message(event, mode=self.ordering.mode)
            requests.append(self.inboxes.accept(self.ordering.inbox_of(event), entry))
        return together_all(requests)

    def _undo(self, message: PendingMessage) -> Request[object]:
        event = message.event
        requests = [self.tasks.forget(event.message_id)]
        if self.ordering.ordering_enabled:
            requests.append(self.inboxes.withdraw(self.ordering.inbox_of(event), event.message_id))
        return together_all(requests)
