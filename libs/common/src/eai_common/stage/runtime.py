"""What the steps around a handler stand on, and the two ways in which an effect of theirs may be done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from eai_common.broker import Publisher
from eai_common.clock import Clock
from eai_common.retry import RetryPolicy
from eai_common.stage.journal import Journal
from eai_common.stage.work import On
from eai_common.store import Checkpoints, StoreUnavailable
from eai_common.telemetry import Metrics, Tracing, get_logger

if TYPE_CHECKING:
    from eai_common.stage.turns import Ends, Turns

__all__ = ["Runtime", "best_effort", "unbroken"]

log = get_logger("eai.stage")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the steps need: one for each stage, made by wiring."""

    stage: str
    handlers: tuple[On, ...]
    publisher: Publisher
    ladder: tuple[timedelta, ...]
    checkpoints: Checkpoints
    journal: Journal
    retry: RetryPolicy
    timeout: timedelta
    max_redeliveries: int
    clock: Clock
    random: Callable[[], float]
    tracing: Tracing
    metrics: Metrics
    turns: Turns | None = None  # None: deliveries are taken as they come
    ends: Ends | None = None  # told when a message is given up, by a stage that is not its last and has no turns


async def best_effort(effect: Awaitable[None]) -> None:
    """Wait for an effect in Redis that the message can do without."""
    try:
        await effect
    except StoreUnavailable as error:
        log.warning("store_unavailable", error=str(error))


async def unbroken(effect: Coroutine[None, None, T]) -> T:
    """Run to the end even when cancelled, and let the cancellation go on afterwards."""
    task = asyncio.ensure_future(effect)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
