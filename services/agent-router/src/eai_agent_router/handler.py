"""What the stage decides: which agent answers, how long it may take, and which event follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from eai_agent_router.agent import Agent, BeforeAsking, History, Turn, at_once
from eai_agent_router.errors import ProviderNotConfigured
from eai_agent_router.merging import text_of
from eai_common.errors import StageError
from eai_common.guards import enforce_max_wait
from eai_common.messages import AgentReplied, Event, HistoryUpdate, HistoryUpdated, MessageText, MessageTranscribed
from eai_common.stage import StageContext
from eai_common.telemetry import get_logger

__all__ = [
    "Agents",
    "Answering",
    "RouteMessage",
    "Threads",
    "TurnContext",
    "UpdateHistory",
    "make_turn",
    "record_use",
]

log = get_logger(__name__)

# So that a slow agent is AGENT_TIMEOUT and not a slow stage, and time is left to settle.
_TO_SETTLE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class TurnContext(StageContext):
    """What a handler gets beside the question. `before_asking` is to be awaited right before the provider is asked."""

    before_asking: BeforeAsking = at_once
    is_repeated: bool = False  # the provider may have had the question before


Answering = Callable[[Event, TurnContext], Awaitable[Event]]
"""Has a question answered. Gives the event that follows."""


class Threads(Protocol):
    """The record of users' threads: when each was last used, and how many messages it has."""

    def touch(self, user_number: str, message_id: str, *, at: datetime) -> Awaitable[None]:
        """Count one more message in the user's thread, once for each `message_id`. Raises StoreUnavailable."""


class Agents:
    """The agents of this deployment, by provider."""

    def __init__(self, by_provider: Mapping[str, Agent], *, default: str, unnamed: Agent | None = None) -> None:
        self._by_provider = by_provider
        self._unnamed = unnamed or by_provider.get(default)

    def find(self, provider: str | None) -> Agent:
        """Return the agent of a message's provider; for None the default one, with its fallbacks if it has any.

        Raises ProviderNotConfigured.
        """
        agent = self._by_provider.get(provider) if provider else self._unnamed
        if agent is None:
            raise ProviderNotConfigured(f"provider: takes one of {', '.join(sorted(self._by_provider))}")
        return agent


class RouteMessage:
    """Lets the agent of the message's provider answer what a user wrote or said."""

    def __init__(self, agents: Agents, max_wait: timedelta) -> None:
        self._agents = agents
        self._max_wait = max_wait

    async def __call__(self, message: MessageText | MessageTranscribed, ctx: TurnContext) -> AgentReplied:
        agent = self._agents.find(message.provider)
        turn = make_turn(message, ctx)
        with enforce_max_wait(self._max_wait, waited=ctx.attempt.waited):
            answer = await agent.ask(turn, deadline=ctx.deadline.less(_TO_SETTLE))
        return AgentReplied.after(message, messages=answer.messages, agent_id=answer.agent_id)


class UpdateHistory:
    """Puts messages into a user's thread."""

    def __init__(self, agents: Agents, max_wait: timedelta) -> None:
        self._agents = agents
        self._max_wait = max_wait

    async def __call__(self, message: HistoryUpdate, ctx: TurnContext) -> HistoryUpdated:
        agent = self._agents.find(message.provider)
        history = History(
            message_id=message.message_id,
            thread_id=message.user_number,
            messages=tuple(message.messages),
            reasoning_engine_id=message.reasoning_engine_id,
            attempt=ctx.attempt.number,
            before_asking=ctx.before_asking,
        )
        with enforce_max_wait(self._max_wait, waited=ctx.attempt.waited):
            said = await agent.remember(history, deadline=ctx.deadline.less(_TO_SETTLE))
        return HistoryUpdated.after(message, answer=said)


def make_turn(message: MessageText | MessageTranscribed, ctx: TurnContext) -> Turn:
    """Return the turn that a message starts."""
    return Turn(
        message_id=message.message_id,
        thread_id=message.user_number,
        text=text_of(message),
        previous_message=message.previous_message,
        reasoning_engine_id=message.reasoning_engine_id,
        confidence=message.confidence if isinstance(message, MessageTranscribed) else None,
        attempt=ctx.attempt.number,
        is_repeated=ctx.is_repeated,
        before_asking=ctx.before_asking,
    )


async def record_use(threads: Threads, message: Event, *, at: datetime) -> None:
    """Best effort: an answer that was paid for is not lost because Redis could not count it."""
    try:
        await threads.touch(message.user_number, message.message_id, at=at)
    except StageError as error:
        log.warning("thread_not_counted", error_code=error.error_code)
