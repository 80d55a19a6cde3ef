"""The answer to a poll, decided from what the store holds and from the id itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from eai_common.store import TaskStatus, TaskView

__all__ = ["Answer", "State", "answer_for"]


class State(Enum):
    """What is known of a message. Each state has an HTTP status of its own."""

    FINISHED = auto()
    PROCESSING = auto()
    EXPIRED = auto()
    NEVER_SEEN = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A state with its data: the result's JSON when finished, the stage and the status while processing.

    `since` is when the message was accepted; None if that is not known.
    """

    state: State
    result: bytes = b""
    stage: str = ""
    status: TaskStatus | None = None
    since: datetime | None = None


def answer_for(view: TaskView, *, issued_at: datetime | None, now: datetime, known_for: timedelta) -> Answer:
    """The result if there is one; else the stage of the message; else that it expired, or that it was never accepted.

    `issued_at` is when this deployment issued the id; None if it did not. Thus a message that was accepted while Redis
    was down counts as processing, and one whose status has expired counts as expired; neither is unknown. `known_for`
    is how long the status of a finished message is kept.
    """
    if view.result is not None:
        return Answer(State.FINISHED, result=view.result)
    if view.status is not None:
        if view.status.is_terminal:
            return Answer(State.EXPIRED)
        return Answer(State.PROCESSING, stage=view.status.stage, status=view.status, since=issued_at)
    if issued_at is None:
        return Answer(State.NEVER_SEEN)
    if now - issued_at < known_for:
        return Answer(State.PROCESSING, stage="ingress", since=issued_at)
    return Answer(State.EXPIRED)
