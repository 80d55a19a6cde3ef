"""Whose turn it is at which host: a few deliveries at a time, and none for a while to one that is down.

Whoever gets no place is deferred into the delay ladder, so it holds none of the stage's own places meanwhile. The state
is this process's own: what a replica learns about a host costs every replica a few tries, and needs no Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from eai_common.errors import Deferred
from eai_common.telemetry import get_logger

__all__ = ["HostBusy", "HostDown", "HostRules", "Hosts", "Place"]

log = get_logger("eai.callbacks")

_MOST_HOSTS = 10_000
_SMOOTHING = 0.2


class HostBusy(Deferred):
    """As many deliveries to the host are under way as may be."""

    error_code = "CALLBACK_HOST_BUSY"


class HostDown(Deferred):
    """The host failed several times in a row, or asked for a pause: it is left alone for a while."""

    error_code = "CALLBACK_HOST_DOWN"


@dataclass(frozen=True, slots=True)
class HostRules:
    """How much a host gets, and how soon it counts as down."""

    parallel: int = 10
    failures_to_open: int = 5  # in a row
    open_for: timedelta = timedelta(seconds=30)  # doubled each time that the one try afterwards fails, too
    longest_open: timedelta = timedelta(minutes=5)
    shortest_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(seconds=60)  # for a place


@dataclass(slots=True)
class _Host:
    in_flight: int = 0
    failures: int = 0  # in a row
    openings: int = 0  # in a row
    closed_until_s: float = 0.0
    booked_until_s: float = 0.0
    usual_s: float = 1.0  # how long a delivery takes

    def is_forgettable(self, now_s: float) -> bool:
        return not self.in_flight and max(self.closed_until_s, self.booked_until_s) <= now_s


@dataclass(slots=True)
class Place:
    """A turn at a host. Telling what came of it is up to the holder; a turn that was cancelled tells nothing."""

    is_host_down: bool | None = None
    pause: timedelta | None = None


class Hosts:
    """Every host that callbacks lately went to, by name and port."""

    def __init__(self, rules: HostRules) -> None:
        self._rules = rules
        self._hosts: dict[str, _Host] = {}

    @contextmanager
    def place(self, name: str) -> Iterator[Place]:
        """A turn at the host. Raises HostBusy or HostDown."""
        host = self._known(name)
        self._check(name, host)
        host.in_flight += 1
        began_s = asyncio.get_running_loop().time()
        place = Place()
        try:
            yield place
        finally:
            host.in_flight -= 1
            self._learn(name, host, place, began_s)

    def _check(self, name: str, host: _Host) -> None:
        now_s = asyncio.get_running_loop().time()
        if host.closed_until_s > now_s:
            raise HostDown(f"{name} is left alone for a while", delay=self._bounded(host.closed_until_s - now_s))
        if host.in_flight >= self._places(host):
            raise HostBusy(f"{name} has {host.in_flight} deliveries under way", delay=self._booked(host, now_s))

    def _places(self, host: _Host) -> int:
        return 1 if host.failures >= self._rules.failures_to_open else self._rules.parallel

    def _booked(self, host: _Host, now_s: float) -> timedelta:
        """When it is likely to be this delivery's turn, if all that were sent away before come back first."""
        host.booked_until_s = max(host.booked_until_s, now_s) + host.usual_s / self._places(host)
        return min(self._bounded(host.booked_until_s - now_s), self._rules.longest_wait)

    def _bounded(self, wait_s: float) -> timedelta:
        return max(timedelta(seconds=wait_s), self._rules.shortest_wait)

    def _learn(self, name: str, host: _Host, place: Place, began_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        if place.is_host_down is not None:
            host.usual_s += _SMOOTHING * (now_s - began_s - host.usual_s)
        if place.is_host_down is False:
            host.failures = host.openings = 0
            host.closed_until_s = 0.0
        if place.is_host_down:
            host.failures += 1
            self._open_if_down(name, host, now_s)
        if place.pause is not None:
            pause = min(place.pause, self._rules.longest_open)  # the whole wish binds this delivery, not every other
            host.closed_until_s = max(host.closed_until_s, now_s + pause.total_seconds())

    def _open_if_down(self, name: str, host: _Host, now_s: float) -> None:
        if host.failures < self._rules.failures_to_open or host.closed_until_s > now_s:
            return  # still well enough, or a straggler of those that found it down
        wait = min(self._rules.open_for * (1 << min(host.openings, 20)), self._rules.longest_open)
        host.openings += 1
        host.closed_until_s = now_s + wait.total_seconds()
        log.warning("callback_host_down", host=name, failures=host.failures, wait_s=wait.total_seconds())

    def _known(self, name: str) -> _Host:
        if name not in self._hosts and len(self._hosts) >= _MOST_HOSTS:
            self._forget()
        return self._hosts.setdefault(name, _Host())

    def _forget(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for name in [name for name, host in self._hosts.items() if host.is_forgettable(now_s)]:
            del self._hosts[name]
