"""A circuit breaker: what failed several times in a row is left alone for a while, then tried by a few calls.

    closed ──failures in a row──▶ open ──its time is over──▶ half-open ──as many probes worked──▶ closed
                                   ▲                             │
                                   └──twice as long, bounded─────┘ one probe failed

Its state is this process's own: what a replica learns costs every replica a few calls, and needs no Redis. Nothing here
awaits, so in one event loop no two callers meet half-way. Why not a library: docs/decisions/0011.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from eai_common.errors import Deferred
from eai_common.telemetry import Metrics, get_logger

__all__ = ["BreakerRules", "BreakerState", "CircuitBreaker", "CircuitOpen", "Judge"]

log = get_logger("eai.breaker")

Judge = Callable[[BaseException], bool | None]
"""What an error says: True, it is down; False, it answered, so it is up; None, nothing at all."""


class BreakerState(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitOpen(Deferred):
    """It is left alone for now. No call was made; `delay` is when to ask again, each caller's a little different."""

    error_code = "CIRCUIT_OPEN"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When it opens, for how long, and how many probes must work until everybody may call again."""

    failures_to_open: int = 5  # in a row
    open_for: timedelta = timedelta(seconds=10)  # doubled each time that a probe fails, too
    longest_open: timedelta = timedelta(minutes=2)
    probes: int = 2  # at most so many at a time while half-open, and so many must work

    def open_time(self, openings: int) -> timedelta:
        """How long the opening number `openings` (1 is the first) without a closing between them lasts."""
        return min(self.open_for * (1 << min(openings - 1, 20)), self.longest_open)


class CircuitBreaker:
    """Guards the calls to one `name`, which is a metric label: a provider, a host; never a user."""

    def __init__(
        self,
        name: str,
        rules: BreakerRules,
        *,
        judge: Judge,
        random: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._rules = rules
        self._judge = judge
        self._random = random
        self._metrics = metrics
        self._openings = 0  # in a row
        self._open_until_s = self._paused_until_s = 0.0
        self._era = 0  # one for each stay in a state: what began in an earlier one says nothing about this one
        self._enter(BreakerState.CLOSED)

    @property
    def state(self) -> BreakerState:
        """As the next call would find it."""
        is_over = self._state is BreakerState.OPEN and asyncio.get_running_loop().time() >= self._open_until_s
        return BreakerState.HALF_OPEN if is_over else self._state

    @contextmanager
    def call(self) -> Iterator[None]:
        """Make one call inside; what it raises is judged and goes on. Raises CircuitOpen instead of letting it be made.

        A cancelled call says nothing, whatever the judge thinks: neither side gave up on the other.
        """
        self._admit()
        era = self._era
        is_probe = self._state is BreakerState.HALF_OPEN
        self._probes_under_way += is_probe
        try:
            yield
        except Exception as error:
            self._learn(era, self._judge(error))
            raise
        else:
            self._learn(era, False)
        finally:
            if era == self._era:
                self._probes_under_way -= is_probe

    def pause(self, duration: timedelta) -> None:
        """Let no call pass for `duration`, as it asked for (bounded by `longest_open`). That is no failure of its."""
        until_s = asyncio.get_running_loop().time() + min(duration, self._rules.longest_open).total_seconds()
        self._paused_until_s = max(self._paused_until_s, until_s)

    def _admit(self) -> None:
        now_s = asyncio.get_running_loop().time()
        waits_s = max(self._open_until_s, self._paused_until_s) - now_s
        if waits_s > 0:
            raise self._refusal(waits_s)
        if self._state is BreakerState.OPEN:
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN and self._probes_under_way >= self._rules.probes - self._worked:
            raise self._refusal(self._rules.open_for.total_seconds() / 2)

    def _refusal(self, waits_s: float) -> CircuitOpen:
        """Spread over as long again, so that those who were sent away do not come back all at once."""
        delay = timedelta(seconds=waits_s * (1 + self._random()))
        return CircuitOpen(f"{self.name} is left alone for a while", delay=delay)

    def _learn(self, era: int, is_down: bool | None) -> None:
        if is_down is None or era != self._era:
            return
        if not is_down:
            self._failures = 0
            self._worked += 1
            if self._state is BreakerState.HALF_OPEN and self._worked >= self._rules.probes:
                self._close()
            return
        self._failures += 1
        if self._state is BreakerState.HALF_OPEN or self._failures >= self._rules.failures_to_open:
            self._open()

    def _open(self) -> None:
        self._openings += 1
        open_time = self._rules.open_time(self._openings)
        log.warning("circuit_opened", service=self.name, failures=self._failures, open_s=open_time.total_seconds())
        self._open_until_s = asyncio.get_running_loop().time() + open_time.total_seconds()
        self._metrics.breaker_openings.labels(self.name).inc()
        self._enter(BreakerState.OPEN)

    def _close(self) -> None:
        log.info("circuit_closed", service=self.name, openings=self._openings)
        self._openings = 0
        self._enter(BreakerState.CLOSED)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._failures = self._worked = self._probes_under_way = 0
        for one in BreakerState:
            self._metrics.breaker_state.labels(self.name, one).set(one is state)
