"""The log of calls to the sandbox, so that a test can see how many came and with what content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from eai_sandbox.jsontype import JsonObject

__all__ = ["Call", "CallLog", "Target"]


_NOT_YET = datetime.min.replace(tzinfo=UTC)


class Target(StrEnum):
    """An outside service that the sandbox stands in for."""

    SPEECH = "speech"
    AGENT_ENGINE = "agent_engine"
    EAI = "eai"
    LETTA = "letta"
    OPENAI = "openai"


@dataclass(slots=True)
class Call:
    """A call that could be read; `outcome` changes while it runs."""

    target: Target
    protocol: str  # "grpc" or "http"
    method: str  # as the protocol names it
    content: str  # the question; for speech the recognizer's name and the language codes
    thread_id: str | None = None  # the conversation: Agent Engine's thread_id, Letta's agent_id, OpenAI's user
    message_id: str | None = None  # the caller's own id, if it gave one
    at: datetime = _NOT_YET
    number: int = 0  # 1 is the first call since the log was cleared
    outcome: str = "running"  # then: answered, malformed, refused:<status>, cancelled, failed
    history: bool = False  # an update of the history: recorded, not answered
    ended_at: datetime | None = None  # None while it runs

    def as_json(self) -> JsonObject:
        """The call as `GET /sandbox/calls` shows it."""
        ended_at = None if self.ended_at is None else self.ended_at.isoformat()
        return {**asdict(self), "target": self.target.value, "at": self.at.isoformat(), "ended_at": ended_at}


class CallLog:
    """The latest calls, oldest first; `total` also counts those that no longer fit."""

    def __init__(self, *, limit: int, now: Callable[[], datetime]) -> None:
        self._calls: deque[Call] = deque(maxlen=limit)
        self._now = now
        self.total = 0

    def start(self, call: Call) -> None:
        """Record a call that has just arrived."""
        self.total += 1
        call.at, call.number = self._now(), self.total
        self._calls.append(call)

    def end(self, call: Call, outcome: str) -> None:
        """Record how a call ended."""
        call.outcome, call.ended_at = outcome, self._now()

    def of(self, target: Target | None = None, *, thread_id: str | None = None) -> list[Call]:
        """The recorded calls of one service or all, of one conversation or all."""
        return [
            call
            for call in self._calls
            if (target is None or call.target is target) and (thread_id is None or call.thread_id == thread_id)
        ]

    def clear(self) -> None:
        """Forget every call and count from one again."""
        self._calls.clear()
        self.total = 0
