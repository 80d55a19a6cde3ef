"""The formatter's handlers: each builds a result, stores it, and only then emits `task.completed`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import orjson

from eai_common.clock import Clock
from eai_common.errors import Unavailable
from eai_common.messages import AgentReplied, Event, HistoryUpdated, MessageFailed, MessageType, Outcome, TaskCompleted
from eai_common.stage import StageContext
from eai_common.telemetry import get_logger
from eai_formatter.channels import profile_for
from eai_formatter.rendering import format_reply
from eai_formatter.result import Result, completed_result, failed_result, history_result
from eai_formatter.texts import FailureTexts

__all__ = ["FormatFailure", "FormatReply", "LatencyWriter", "ResultWriter", "StoreHistoryAnswer"]

log = get_logger("eai.formatter")

_LARGE_CHARACTERS = 20_000


class ResultWriter(Protocol):
    """Stores results."""

    def finish(
        self, message_id: str, outcome: Outcome, result: bytes, *, at: datetime, accepted_at: datetime
    ) -> Awaitable[Outcome]:
        """Store the terminal state unless there is one. Returns the stored outcome. Raises StoreUnavailable."""


class LatencyWriter(Protocol):
    """Keeps the times that recent messages took."""

    def note(self, message_type: MessageType, took: timedelta) -> Awaitable[None]:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class FormatReply:
    """Formats the agent's Markdown for the message's channel, and stores the answer."""

    results: ResultWriter
    latency: LatencyWriter
    clock: Clock

    async def __call__(self, event: AgentReplied, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        characters = sum(len(getattr(message, "content", "")) for message in event.messages)
        formatting = partial(format_reply, profile=profile_for(event.channel))
        if characters > _LARGE_CHARACTERS:  # long enough to delay other messages on the event loop
            result = await asyncio.to_thread(completed_result, event, now=now, format_text=formatting)
        else:
            result = completed_result(event, now=now, format_text=formatting)
        completed = await _finish(self.results, event, "completed", result, now)
        if completed is not None:
            await self._note_latency(event, now)
        return completed

    async def _note_latency(self, event: AgentReplied, now: datetime) -> None:
        try:
            await self.latency.note(event.message_type, now - event.timestamp)
        except Unavailable as error:
            log.warning("store_unavailable", error=str(error))


@dataclass(frozen=True, slots=True)
class FormatFailure:
    """Finds the text for a failure, and stores it."""

    results: ResultWriter
    texts: FailureTexts
    clock: Clock

    async def __call__(self, event: MessageFailed, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        result = failed_result(event, self.texts.of(event.error_code), now=now)
        return await _finish(self.results, event, "failed", result, now)


@dataclass(frozen=True, slots=True)
class StoreHistoryAnswer:
    """Stores the outcome of a history update for its client. There is nothing to format."""

    results: ResultWriter
    clock: Clock

    async def __call__(self, event: HistoryUpdated, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        return await _finish(self.results, event, "completed", history_result(event, now=now), now)


async def _finish(
    results: ResultWriter, event: Event, outcome: Outcome, result: Result, now: datetime
) -> TaskCompleted | None:
    """Store the result, then emit it. None if the message already ended otherwise: the first end holds."""
    stored = await results.finish(event.message_id, outcome, orjson.dumps(result), at=now, accepted_at=event.timestamp)
    if stored != outcome:
        log.warning("outcome_kept", kept=stored, dropped=outcome)
        return None
    return TaskCompleted.after(event, status=outcome, result=result)
