"""Ends messages in their user's mailbox, and sends the one that comes next on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import orjson

from eai_common.broker import BrokerUnavailable, Outgoing, Publisher, Unroutable
from eai_common.clock import Clock
from eai_common.stage.work import COPY, Work
from eai_common.store import Mailboxes
from eai_common.telemetry import get_logger

__all__ = ["MailboxEnds", "parked", "unparked"]

log = get_logger("eai.stage")


class MailboxEnds:
    """Tells the mailbox; `new_id` names the copy that is woken."""

    def __init__(self, mailboxes: Mailboxes, publisher: Publisher, clock: Clock, new_id: Callable[[], str]) -> None:
        self._mailboxes = mailboxes
        self._publisher = publisher
        self._clock = clock
        self._new_id = new_id

    async def ended(self, user_number: str, message_ids: Sequence[str]) -> None:
        """Take the messages out, and wake the next one. Raises StoreUnavailable."""
        woken = await self._mailboxes.end(user_number, message_ids, now=self._clock.now())
        if woken is not None:
            await self.wake(unparked(woken))

    async def wake(self, message: Outgoing) -> None:
        """Publish what waits in the ladder once more; if that fails, the ladder brings it a little later."""
        copy = Outgoing(
            routing_key=message.routing_key,
            body=message.body,
            message_id=message.message_id,
            event=message.event,
            timestamp=message.timestamp,
            headers={**message.headers, COPY: self._new_id()},
        )
        try:
            await self._publisher.publish(copy)
        except (BrokerUnavailable, Unroutable) as error:
            log.warning("next_not_woken", next_message_id=message.message_id, error=str(error))


def parked(work: Work, kind: str) -> bytes:
    """A delivery as its mailbox keeps it: a line with its kind, one with its properties, and the body."""
    delivery = work.delivery
    properties = {
        "routing_key": delivery.routing_key,
        "message_id": work.message_id,
        "event": delivery.event or work.event_name,
        "timestamp": delivery.timestamp or (work.event.timestamp if work.event is not None else None),
        "headers": dict(delivery.headers),
    }
    return b"\n".join((kind.encode(), orjson.dumps(properties), delivery.body))


def unparked(kept: bytes) -> Outgoing:
    """The message that `parked` wrote, as it is published again."""
    _, properties, body = kept.split(b"\n", 2)
    told = orjson.loads(properties)
    return Outgoing(
        routing_key=told["routing_key"],
        body=body,
        message_id=told["message_id"],
        event=told["event"],
        timestamp=datetime.fromisoformat(told["timestamp"]),
        headers=told["headers"],
    )
