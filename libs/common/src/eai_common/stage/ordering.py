"""Order among one user's messages: the port, and the mailbox that wakes the message which comes next.

A stage without an ordering handles deliveries as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import orjson

from eai_common.broker import BrokerUnavailable, Outgoing, Publisher, Unroutable
from eai_common.clock import Clock
from eai_common.stage.delivery import COPY, RoutineWait, Work
from eai_common.store import Mailboxes
from eai_common.telemetry import get_logger

__all__ = ["EndObserver", "MailboxEndObserver", "OutOfOrder", "UserOrdering", "park", "unpark"]

log = get_logger("eai.stage")


class OutOfOrder(RoutineWait):
    """An earlier message of the same user has not ended."""

    error_code = "OUT_OF_ORDER"


class EndObserver(Protocol):
    """Learns which messages have ended, so that what waited for them can go."""

    async def record_end(self, user_number: str, message_ids: Sequence[str]) -> None:
        """Called after the outcome of the messages was confirmed, perhaps again. Raises StoreUnavailable."""


class UserOrdering(EndObserver, Protocol):
    """Lets the messages of one user go one after the other."""

    async def admit(self, work: Work) -> None:
        """Return if the delivery may go now; `work` then says what goes with it, or that another copy does it all.

        Raises OutOfOrder or StoreUnavailable.
        """

    async def hold(self, work: Work, delay: timedelta) -> None:
        """Keep the place of a delivery that was admitted and then deferred. Raises StoreUnavailable."""


class MailboxEndObserver:
    """Ends messages in their user's mailbox, and publishes the next one again; `new_id` names that copy."""

    def __init__(self, mailboxes: Mailboxes, publisher: Publisher, clock: Clock, new_id: Callable[[], str]) -> None:
        self._mailboxes = mailboxes
        self._publisher = publisher
        self._clock = clock
        self._new_id = new_id

    async def record_end(self, user_number: str, message_ids: Sequence[str]) -> None:
        """Take the messages out, and wake the next one. Raises StoreUnavailable."""
        woken = await self._mailboxes.end(user_number, message_ids, now=self._clock.now())
        if woken is not None:
            await self.wake(unpark(woken))

    async def wake(self, message: Outgoing) -> None:
        """Publish a copy of what waits in the ladder; if that fails, the ladder brings the message a little later."""
        try:
            await self._publisher.publish(replace(message, headers={**message.headers, COPY: self._new_id()}))
        except (BrokerUnavailable, Unroutable) as error:
            log.warning("next_not_woken", next_message_id=message.message_id, error=str(error))


def park(work: Work, kind: str) -> bytes:
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


def unpark(parked: bytes) -> Outgoing:
    """The message that `park` packed, to be published again."""
    _, properties, body = parked.split(b"\n", 2)
    fields = orjson.loads(properties)
    return Outgoing(
        routing_key=fields["routing_key"],
        body=body,
        message_id=fields["message_id"],
        event=fields["event"],
        timestamp=datetime.fromisoformat(fields["timestamp"]),
        headers=fields["headers"],
    )
