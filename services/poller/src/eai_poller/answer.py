"""What a poll is told, decided from what the store knows and what the id itself says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from eai_common.store import TaskStatus, TaskView

__all__ = ["Answer", "State", "answer_for"]


class State(Enum):
    """The poller never lies: each of these has its own answer."""

    FINISHED = auto()
    PROCESSING = auto()
    EXPIRED = auto()
    NEVER_SEEN = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A state with what belongs to it: the result's JSON when finished, the stage and the status while processing.

    `since` is when the message was accepted, None where that is not known.
    """

    state: State
    result: bytes = b""
    stage: str = ""
    status: TaskStatus | None = None
    since: datetime | None = None


def answer_for(view: TaskView, *, issued_at: datetime | None, now: datetime, known_for: timedelta) -> Answer:
    """The result, else where the message is, else that it is gone, or was never here.

    `issued_at` is when a gateway like this one issued the id, None when none did: so a message that was accepted while
    Redis was down is processing and not unknown, and one that everything about has expired is gone and not unknown.
    `known_for` is how long a finished message's status is kept.
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
