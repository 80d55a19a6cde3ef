"""The port to an agent, whichever provider runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from eai_agent_router.errors import AgentBadResponse
from eai_common.clock import Deadline
from eai_common.messages import HistoryMessage
from eai_common.replies import ReplyMessage

__all__ = ["Agent", "Answer", "BeforeAsking", "History", "PartialReply", "Turn", "at_once", "await_answer"]

BeforeAsking = Callable[[], Awaitable[None]]
"""Returns when the provider may be asked. Raises Deferred if it may not."""


async def at_once() -> None:
    """For what may be asked without further ado."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing the user says, and what an agent needs to answer it."""

    message_id: str
    thread_id: str  # the user's number: one user, one conversation
    text: str
    previous_message: str | None = None  # what the assistant had said outside this thread, None: nothing
    reasoning_engine_id: str | None = None  # None: the configured one; only Agent Engine knows it
    confidence: float | None = None  # of spoken words, 0 to 1, as their recogniser sees it; None: typed, or not said
    attempt: int = 1  # 1 is the first
    is_repeated: bool = False  # the provider may have had it before
    before_asking: BeforeAsking = field(default=at_once, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class History:
    """Messages of a conversation that took place elsewhere, in order."""

    message_id: str
    thread_id: str
    messages: tuple[HistoryMessage, ...]
    reasoning_engine_id: str | None = None
    attempt: int = 1
    before_asking: BeforeAsking = field(default=at_once, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The messages of one turn, closed by its usage statistics; at least one is the assistant's."""

    messages: tuple[ReplyMessage, ...]
    agent_id: str


@dataclass(frozen=True, slots=True)
class PartialReply:
    """Words of an answer that is still being made; they follow those of the partial replies before it."""

    text: str


class Agent(Protocol):
    """Answers users and remembers their threads. Every adapter inherits it, and passes `AgentContract`.

    Every method raises the errors of `eai_agent_router.errors`, AgentTimeout once the deadline has passed among them.
    """

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        """Return the agent's answer to the user's words; a second call with the same turn may ask a second time."""

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        """Put messages into the thread without an answer; return what the provider said to it."""

    async def stream(self, turn: Turn, *, deadline: Deadline) -> AsyncGenerator[PartialReply | Answer, None]:
        """Yield the answer's words as they come, as far as the provider can, and the whole Answer at the end.

        An adapter whose provider cannot stream leaves this as it is.
        """
        yield await self.ask(turn, deadline=deadline)


async def await_answer(stream: AsyncGenerator[PartialReply | Answer, None]) -> Answer:
    """Return the Answer that a stream ends in. Raises AgentBadResponse if it ends without one."""
    last: PartialReply | Answer | None = None
    async with aclosing(stream):
        async for part in stream:
            last = part
    if not isinstance(last, Answer):
        raise AgentBadResponse("the agent's stream ended without an answer")
    return last
