"""Works on users' inboxes: a delivery is a permit to do what comes next for its user, until its message has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from eai_agent_router.handler import Answering
from eai_agent_router.inbox.bench import Bench, WorkerRules
from eai_agent_router.inbox.permit import Permit
from eai_agent_router.inbox.renewal import Leases
from eai_common.background import run_alongside
from eai_common.messages import (
    Event,
    HistoryUpdate,
    MessageAudio,
    MessageText,
    MessageTranscribed,
    TranscriptionFailed,
)
from eai_common.stage import Process, Runtime, Verdict, Work
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics
from eai_common.turns.store import InboxStore

__all__ = ["InboxWorker"]


class InboxWorker:
    """The agent router's worker. `record_use` counts a user's answered message, best effort."""

    events = (MessageText, MessageTranscribed, TranscriptionFailed, HistoryUpdate, MessageAudio)

    def __init__(
        self,
        inboxes: InboxStore,
        redis: RedisClient,
        answers: Mapping[type[Event], Answering],
        record_use: Callable[[Event], Awaitable[None]],
        rules: WorkerRules,
        metrics: Metrics,
    ) -> None:
        self._inboxes = inboxes
        self._redis = redis
        self._answers = answers
        self._record_use = record_use
        self._rules = rules
        self._metrics = metrics

    @asynccontextmanager
    async def open(self, runtime: Runtime, stop: asyncio.Event) -> AsyncIterator[Process]:
        """The function that works on a delivery. Leases are renewed while the context is open."""
        leases = Leases(self._inboxes, self._rules.lease / 3)
        bench = Bench(
            self._inboxes,
            self._redis,
            self._answers,
            self._record_use,
            self._rules,
            self._metrics,
            runtime,
            stop,
            leases,
        )

        async def process(work: Work) -> Verdict:
            return await Permit(bench, work).use()

        async with run_alongside({"renew leases": leases.renew_regularly()}):
            yield process
