"""What all deliveries of a process work with, and by which rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from eai_agent_router.handler import Answering
from eai_agent_router.inbox.renewal import Leases
from eai_common.messages import Event
from eai_common.stage import Runtime
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics
from eai_common.turns.state import Mode
from eai_common.turns.store import InboxStore

__all__ = ["Bench", "WorkerRules"]


@dataclass(frozen=True, slots=True)
class WorkerRules:
    """What a delivery may do. `turns` and `work_time` bound the work on one user before others get the place."""

    is_ordered: bool = True  # else each message has an inbox of its own
    mode: Mode = "queue"  # of messages that do not say it themselves
    give_up_after: timedelta = timedelta(seconds=60)  # a turn that fails for so long, while others wait behind it
    lease: timedelta = timedelta(seconds=10)  # renewed three times as often
    turns: int = 5
    work_time: timedelta = timedelta(seconds=60)
    next_looks: tuple[timedelta, timedelta] = (timedelta(seconds=2), timedelta(seconds=30))
    others_look: tuple[timedelta, timedelta] = (timedelta(seconds=30), timedelta(minutes=5))
    suspect_wait: timedelta = timedelta(seconds=5)


@dataclass(eq=False)
class Bench:
    """What all permits of a process work with."""

    inboxes: InboxStore
    redis: RedisClient
    answers: Mapping[type[Event], Answering]
    record_use: Callable[[Event], Awaitable[None]]
    rules: WorkerRules
    metrics: Metrics
    runtime: Runtime
    stop: asyncio.Event
    leases: Leases
    is_asking_suspect: bool = field(default=False)  # a turn that may be what kills its workers
