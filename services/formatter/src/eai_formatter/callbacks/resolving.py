"""Looks a host's name up once for all deliveries that need it at the same time.

The system's resolver blocks a thread of a small pool and cannot be cancelled. If each delivery looked up by itself, one
host whose name servers hang could take all threads, and block every other host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eai_common.outbound import Resolver, resolve_by_system

__all__ = ["SharedResolver"]


class SharedResolver:
    """A resolver that shares the lookups under way. Nothing is cached: the next delivery looks up again."""

    def __init__(self, resolve: Resolver = resolve_by_system) -> None:
        self._resolve = resolve
        self._under_way: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        lookup = self._under_way.get(host)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(host), name=f"callbacks/resolve {host}")
            self._under_way[host] = lookup
            lookup.add_done_callback(lambda done: self._forget(host, done))
        # Shielded: a delivery whose time is up leaves the lookup to the others; its thread is busy in any case.
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str) -> Sequence[str]:
        return await self._resolve(host)

    def _forget(self, host: str, done: asyncio.Task[Sequence[str]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            done.exception()  # the deliveries that waited have it; asyncio would log it if there are none any more
