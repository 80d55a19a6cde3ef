"""What the formatter decides: how an answer or a failure is shown, and that it is stored before anyone is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import orjson

from eai_common.clock import Clock
from eai_common.errors import Unavailable
from eai_common.messages import AgentReplied, Event, HistoryUpdated, MessageFailed, MessageType, Outcome, TaskCompleted
from eai_common.stage import StageContext
from eai_common.telemetry import get_logger
from eai_formatter.rendering import Formatted, format_reply
from eai_formatter.result import Result, completed_result, failed_result, history_result
from eai_formatter.texts import FailureTexts

__all__ = ["FormatFailure", "FormatReply", "LatencyWriter", "ResultWriter", "StoreHistoryAnswer"]

log = get_logger("eai.formatter")

_LARGE_CHARACTERS = 20_000


class ResultWriter(Protocol):
    """The one place where results are stored."""

    async def finish(
        self, message_id: str, outcome: Outcome, result: bytes, *, at: datetime, accepted_at: datetime
    ) -> Outcome:
        """Store the terminal state unless there is one; the one that holds is returned. Raises StoreUnavailable."""


class LatencyWriter(Protocol):
    """Where recent times go."""

    async def note(self, message_type: MessageType, took: timedelta) -> None:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class FormatReply:
    """Turns the agent's Markdown into WhatsApp's formatting, and stores the answer."""

    results: ResultWriter
    latency: LatencyWriter
    clock: Clock

    async def __call__(self, event: AgentReplied, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        characters = sum(len(getattr(message, "content", "")) for message in event.messages)
        if characters > _LARGE_CHARACTERS:  # long enough to be felt by the others if the event loop did it
            result = await asyncio.to_thread(completed_result, event, now=now, formatted=_formatted)
        else:
            result = completed_result(event, now=now, formatted=_formatted)
        completed = await _finished(self.results, event, "completed", result, now)
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
    """Finds the words for a failure, and stores it."""

    results: ResultWriter
    texts: FailureTexts
    clock: Clock

    async def __call__(self, event: MessageFailed, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        result = failed_result(event, self.texts.of(event.error_code), now=now)
        return await _finished(self.results, event, "failed", result, now)


@dataclass(frozen=True, slots=True)
class StoreHistoryAnswer:
    """Stores what became of a history update, for whoever asked for it; there is nothing to format."""

    results: ResultWriter
    clock: Clock

    async def __call__(self, event: HistoryUpdated, ctx: StageContext) -> TaskCompleted | None:
        now = self.clock.now()
        return await _finished(self.results, event, "completed", history_result(event, now=now), now)


def _formatted(markdown: str) -> Formatted:
    return format_reply(markdown)


async def _finished(
    results: ResultWriter, event: Event, outcome: Outcome, result: Result, now: datetime
) -> TaskCompleted | None:
    """Store, then tell. None when the message had already ended the other way: the first end holds."""
    holds = await results.finish(event.message_id, outcome, orjson.dumps(result), at=now, accepted_at=event.timestamp)
    if holds != outcome:
        log.warning("outcome_kept", kept=holds, dropped=outcome)
        return None
    return TaskCompleted.after(event, status=outcome, result=result)
