"""Builds the formatter: one stage formats and stores results, one delivers callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eai_common.messages import AgentReplied, HistoryUpdated, MessageFailed
from eai_common.outbound import GuardedClient
from eai_common.process import BrokerResources, Service, ServiceDefinition
from eai_common.stage import Stage, handler_for
from eai_common.store import LatencyStore, TaskStore
from eai_formatter.callbacks import SharedResolver, build_callback_policy, build_callback_stage
from eai_formatter.handler import FormatFailure, FormatReply, StoreHistoryAnswer
from eai_formatter.settings import Settings
from eai_formatter.texts import FailureTexts

__all__ = ["FORMATTER"]


@asynccontextmanager
async def _build(settings: Settings, resources: BrokerResources) -> AsyncIterator[Service]:
    results = TaskStore(resources.redis, settings.tasks)
    formats = Stage(
        "formatter",
        (
            handler_for(AgentReplied, FormatReply(results, LatencyStore(resources.redis), resources.clock)),
            handler_for(HistoryUpdated, StoreHistoryAnswer(results, resources.clock)),
            handler_for(MessageFailed, FormatFailure(results, FailureTexts.packaged(), resources.clock)),
        ),
    )
    async with GuardedClient(build_callback_policy(settings.callbacks), resolve=SharedResolver()) as client:
        delivers = build_callback_stage(settings.callbacks, settings.process, settings.tasks, resources, client)
        yield Service(stages=[formats, delivers])


FORMATTER = ServiceDefinition("formatter", Settings, BrokerResources, _build)
"""The formatter is the only writer of results."""
