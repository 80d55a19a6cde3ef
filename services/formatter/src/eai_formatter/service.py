"""Puts the formatter together: two consumers, one that formats and stores, one that delivers callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eai_common.messages import AgentReplied, HistoryUpdated, MessageFailed
from eai_common.outbound import GuardedClient
from eai_common.service import Parts, Service, ServiceDefinition
from eai_common.stage import Stage, handler_for
from eai_common.store import LatencyStore, TaskStore
from eai_formatter.callbacks import SharedResolver, callback_policy, callback_stage
from eai_formatter.handler import FormatFailure, FormatReply, StoreHistoryAnswer
from eai_formatter.settings import Settings
from eai_formatter.texts import FailureTexts

__all__ = ["FORMATTER"]


@asynccontextmanager
async def _build(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    results = TaskStore(parts.redis, settings.tasks)
    formats = Stage(
        "formatter",
        (
            handler_for(AgentReplied, FormatReply(results, LatencyStore(parts.redis), parts.clock)),
            handler_for(HistoryUpdated, StoreHistoryAnswer(results, parts.clock)),
            handler_for(MessageFailed, FormatFailure(results, FailureTexts.packaged(), parts.clock)),
        ),
    )
    async with GuardedClient(callback_policy(settings.callbacks), resolve=SharedResolver()) as client:
        delivers = callback_stage(settings.callbacks, settings.process, settings.tasks, parts, client)
        yield Service(stages=[formats, delivers])


FORMATTER = ServiceDefinition("formatter", Settings, _build)
"""The only writer of results."""
