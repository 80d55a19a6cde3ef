"""One user's turns: order, once-only, retries, merging and replay as one record for each user and one state machine.

A user's inbox in Redis holds the open messages in order of acceptance, with their bodies. A delivery from RabbitMQ is a
permit to work on its user's inbox until its own message has ended. Whoever holds a permit works on what comes first,
whichever message that is. `state` has the record and the answers, `machine` the calls, `store` the calls in Redis. Why:
docs/decisions/0017.

A worker goes on with what each call says is to be done:

    step = await inboxes.begin(user, message, owner=new_id())
    # Turn: the guards, `ask`, the provider, then `record`, or `later`
    # Fail: `record` of the failure
    # Emit: publish each outcome, confirmed, then `emitted`, or `hand_over` by who does not go on
    # Wait: ack if the delivery's own message has ended; else the ladder, then ack
    # Done: ack
"""

from eai_common.turns.state import (
    CANCELLED,
    Accepted,
    Answered,
    CancelAnswer,
    Cancelled,
    Changed,
    Done,
    Emission,
    Emit,
    Ended,
    Fail,
    FailCode,
    Grant,
    HandOver,
    Held,
    Lost,
    Message,
    Mode,
    Outcome,
    Overdue,
    Postponed,
    Question,
    Ref,
    Rejected,
    Rules,
    Step,
    Turn,
    Unknown,
    Wait,
)
from eai_common.turns.store import InboxStore, unix_ms

__all__ = [
    "CANCELLED",
    "Accepted",
    "Answered",
    "CancelAnswer",
    "Cancelled",
    "Changed",
    "Done",
    "Emission",
    "Emit",
    "Ended",
    "Fail",
    "FailCode",
    "Grant",
    "HandOver",
    "Held",
    "InboxStore",
    "Lost",
    "Message",
    "Mode",
    "Outcome",
    "Overdue",
    "Postponed",
    "Question",
    "Ref",
    "Rejected",
    "Rules",
    "Step",
    "Turn",
    "Unknown",
    "Wait",
    "unix_ms",
]
