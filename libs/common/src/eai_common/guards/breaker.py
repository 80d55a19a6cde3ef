"""A circuit breaker: after several failures in a row no call is made for a while, then a few calls probe.

    closed ──failures in a row──▶ open ──its time is over──▶ half-open ──as many probes worked──▶ closed
                                   ▲                             │
                                   └──twice as long, bounded─────┘ one probe failed

Its state is this process's own: what one replica learns costs each of the others a few calls, and needs no Redis.
Nothing here awaits, so in one event loop no two callers meet half-way. Why not a library: docs/decisions/0011.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from eai_common.errors import Retriable
from eai_common.guards.guard import Call, GuardWait
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


class CircuitOpen(GuardWait):
    """No call is made for now; `delay` is when to come back, each caller's a little different."""

    error_code = "CIRCUIT_OPEN"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When it opens, for how long, and how many probes must work until every call is made again."""

    failures_to_open: int = 5  # in a row
    open_for: timedelta = timedelta(seconds=10)  # doubled each time that a probe fails, too
    longest_open: timedelta = timedelta(minutes=2)
    probes: int = 2  # at most so many at a time while half-open, and so many must work
    probe_wait: timedelta = timedelta(seconds=5)  # until a call that found probes under way comes back
    spread: float = 1.0  # of a refusal's delay: the share of it that is added at random

    def open_time(self, openings: int) -> timedelta:
        """Return how long it stays open the `openings`-th time in a row (1 is the first)."""
        return min(self.open_for * (1 << min(openings - 1, 20)), self.longest_open)


class CircuitBreaker:
    """Guards the calls to one `name`, a provider or a host; never a user.

    The name is a metric label, so where names are without bound, there are no `metrics`.
    """

    def __init__(
        self,
        name: str,
        rules: BreakerRules,
        *,
        judge: Judge,
        refusal: type[GuardWait] = CircuitOpen,
        random: Callable[[], float],
        metrics: Metrics | None,
    ) -> None:
        self.name = name
        self._rules = rules
        self._judge = judge
        self._refusal = refusal
        self._random = random
        self._metrics = metrics
        self._openings = 0  # in a row
        self._open_until_s = self._paused_until_s = 0.0
        self._era = 0  # one for each stay in a state: what began in an earlier one says nothing about this one
        self._enter(BreakerState.CLOSED)

    @property
    def state(self) -> BreakerState:
        """The state as the next call would find it."""
        is_over = self._state is BreakerState.OPEN and asyncio.get_running_loop().time() >= self._open_until_s
        return BreakerState.HALF_OPEN if is_over else self._state

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        """Raises the refusal if the call is not to be made.

        The judge hears what the call raises. A pause that the other side asks for (`retry_after`) holds for every call.
        A cancelled call says nothing, whatever the judge thinks: neither side gave up on the other.
        """
        self._admit()
        era = self._era
        is_probe = self._state is BreakerState.HALF_OPEN
        self._probes_under_way += is_probe
        try:
            yield call
        except Exception as error:
            self._learn(era, self._judge(error))
            if isinstance(error, Retriable) and error.retry_after is not None:
                self.pause(error.retry_after)
            raise
        else:
            self._learn(era, False)
        finally:
            if era == self._era:
                self._probes_under_way -= is_probe

    def pause(self, duration: timedelta) -> None:
        """Make no call for `duration`, `longest_open` at most. A pause is no failure."""
        until_s = asyncio.get_running_loop().time() + min(duration, self._rules.longest_open).total_seconds()
        self._paused_until_s = max(self._paused_until_s, until_s)

    def _admit(self) -> None:
        now_s = asyncio.get_running_loop().time()
        waits_s = max(self._open_until_s, self._paused_until_s) - now_s
        if waits_s > 0:
            raise self._refused(waits_s)
        if self._state is BreakerState.OPEN:
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN and self._probes_under_way >= self._rules.probes - self._worked:
            raise self._refused(self._rules.probe_wait.total_seconds())

    def _refused(self, waits_s: float) -> GuardWait:
        """Spread, so that the calls that were refused do not come back all at once."""
        delay = timedelta(seconds=waits_s * (1 + self._rules.spread * self._random()))
        return self._refusal(f"{self.name} is not called for a while: it failed, or asked for a pause", delay=delay)

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
        log.warning("circuit_opened", target=self.name, failures=self._failures, open_s=open_time.total_seconds())
        self._open_until_s = asyncio.get_running_loop().time() + open_time.total_seconds()
        if self._metrics is not None:
            self._metrics.breaker_openings.labels(self.name).inc()
        self._enter(BreakerState.OPEN)

    def _close(self) -> None:
        log.info("circuit_closed", target=self.name, openings=self._openings)
        self._openings = 0
        self._enter(BreakerState.CLOSED)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._failures = self._worked = self._probes_under_way = 0
        if self._metrics is not None:
            for one in BreakerState:
                self._metrics.breaker_state.labels(self.name, one).set(one is state)
