"""What a message's end leaves behind: its outcome for those who ask again, and room for its user's next message."""

from __future__ import annotations

from eai_common.messages import EVENTS, Event, decode, encode
from eai_common.stage.runtime import Runtime
from eai_common.stage.turns import Ends
from eai_common.stage.work import Work

__all__ = ["end_done", "end_given_up", "recordable", "recorded"]


def recordable(emit: Event | None) -> bytes:
    """What a checkpoint keeps of a message that is done: the event that followed, if one did."""
    return b"" if emit is None else emit.name.encode() + b"\n" + encode(emit)


def recorded(outcome: bytes) -> Event | None:
    """What `recordable` was given."""
    if not outcome:
        return None
    name, _, body = outcome.partition(b"\n")
    kind = EVENTS[name.decode()]
    return decode(body, event_name=kind.name, accepts=[kind], fallback_time=None)


async def end_done(runtime: Runtime, work: Work, ends: Ends, outcome: bytes) -> None:
    """The delivery is done, and what follows it was confirmed. Raises StoreUnavailable."""
    if work.event is None:
        return
    await _record_others(runtime, work)
    if work.lead_id is not None:
        await runtime.checkpoints.record(work.event.message_id, outcome)
    await _ended(work, ends, work.event)


async def end_given_up(runtime: Runtime, work: Work, ends: Ends, failure: Event) -> None:
    """The delivery is given up, and its user was told so by `failure`. Raises StoreUnavailable."""
    await _record_others(runtime, work)
    # Other copies of it may come yet, and are not to try it again.
    for message_id in dict.fromkeys((failure.message_id, work.lead_id or failure.message_id)):
        await runtime.checkpoints.give_up(message_id)
    await _ended(work, ends, failure)


async def _record_others(runtime: Runtime, work: Work) -> None:
    for event in work.along:
        if event.message_id != work.lead_id:  # the lead's outcome is that of the whole turn
            await runtime.checkpoints.record(event.message_id, recordable(event))


async def _ended(work: Work, ends: Ends, last: Event) -> None:
    await ends.ended(last.user_number, [event.message_id for event in (*work.along, last)])
