"""Calls to the inbox that must not stay without an answer: while Redis is away, they are made again."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from eai_common.store import Request, StoreUnavailable
from eai_common.telemetry import get_logger

__all__ = ["insist"]

log = get_logger(__name__)
T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


async def insist(request: Request[T]) -> T:
    """Make the call, with the same names, until Redis answers."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await request
        except StoreUnavailable as error:
            log.warning("store_unavailable", error=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
