"""How many requests a client may make, counted in Redis by all replicas together.

The app counts each request before its route is reached. A route that goes to Redis anyway can let the count ride along
instead: make it a `SelfLimitedRoute`, and

    limit = get_pending_limit(request)          # None where there is no limit
    taken, other = await together(limit.count, another_request)
    limit.admit(taken)                      # raises HttpError 429; else the answer gets its headers

Where such a route ends without that, the request is counted when its answer goes out.

A Redis that is out of reach limits nobody: the request is answered, without the headers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from eai_common.clock import Clock
from eai_common.guards import Taken, Window, WindowState
from eai_common.http.callers import Identity
from eai_common.http.errors import ErrorBody, HttpError
from eai_common.settings.http import SecuritySettings
from eai_common.store import Request, SlidingWindow, StoreUnavailable
from eai_common.telemetry import Metrics

__all__ = ["PendingLimit", "RateLimits", "SelfLimitedRoute", "get_pending_limit", "make_rate_windows"]

_MINUTE = timedelta(minutes=1)
_DEFAULT_PER_MINUTE = 1000


class SelfLimitedRoute(Route):
    """A route that counts its requests itself, in a round trip that it makes anyway."""


@dataclass(slots=True)
class PendingLimit:
    """The count of one request: `count` takes its place, `admit` is told what came of it."""

    count: Request[Taken]
    clock: Clock
    metrics: Metrics
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    was_tried: bool = False

    def admit(self, taken: Taken) -> None:
        """Raises HttpError 429 when the client has no place left."""
        self.was_tried = True
        state = choose_window(taken)
        self.headers = self._make_headers(state)
        self.metrics.rate_limited.labels("allowed" if taken.is_allowed else "refused").inc()
        if not taken.is_allowed:
            raise _make_refusal(state, taken.retry_after)

    def _make_headers(self, state: WindowState) -> list[tuple[bytes, bytes]]:
        reset = math.ceil(self.clock.now().timestamp() + state.frees_in.total_seconds())
        numbers = {"limit": state.window.limit, "remaining": state.remaining, "reset": reset}
        return [(f"x-ratelimit-{name}".encode(), str(number).encode()) for name, number in numbers.items()]


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits that hold for every client."""

    windows: Sequence[Window]  # the longest first
    sliding: SlidingWindow
    clock: Clock
    metrics: Metrics

    def pending(self, identity: Identity) -> PendingLimit:
        """A request's count, not taken yet."""
        return PendingLimit(self.sliding.take(f"http:{identity.key}", self.windows), self.clock, self.metrics)

    async def admit(self, pending: PendingLimit) -> None:
        """Count the request. Raises HttpError 429."""
        pending.was_tried = True
        try:
            taken = await pending.count
        except StoreUnavailable:
            # The client of Redis logs once that Redis is lost, and refuses without a wait until it is back.
            self.metrics.rate_limited.labels("not_counted").inc()
            return
        pending.admit(taken)


def get_pending_limit(request: HttpRequest) -> PendingLimit | None:
    """What a SelfLimitedRoute has to count; None where there is no limit."""
    found = getattr(request.state, "limit", None)
    assert found is None or isinstance(found, PendingLimit)
    return found


def make_rate_windows(settings: SecuritySettings, *, is_open: bool) -> tuple[Window, ...]:
    """The windows that the settings ask for, the longest first; none are no limit."""
    per_minute = settings.rate_limit_requests_per_minute
    if per_minute is None:
        per_minute = 0 if is_open else _DEFAULT_PER_MINUTE
    if per_minute == 0:
        return ()
    minute, period = Window(per_minute, _MINUTE), settings.rate_limit_burst_period
    # Above the even rate: a burst limit below it would be the only limit, and the minute's would mean nothing.
    at_once = settings.rate_limit_burst + int(per_minute * (period / _MINUTE))
    if not settings.rate_limit_burst or period >= _MINUTE or at_once >= per_minute:
        return (minute,)
    return (minute, Window(at_once, period))


def choose_window(taken: Taken) -> WindowState:
    """The window to tell of: the full one that opens last, else the longest. So with 0 left the next is refused."""
    full = [state for state in taken.states if state.remaining == 0]
    return max(full, key=lambda state: state.frees_in, default=taken.states[0])


def _make_refusal(state: WindowState, wait: timedelta) -> HttpError:
    retry_after = max(1, math.ceil(wait.total_seconds()))
    period = _describe_period(state.window.period)
    body = ErrorBody(
        "Rate limit exceeded",
        f"More than {state.window.limit} requests in {period}. Try again in {retry_after} s.",
        extra={"retry_after": retry_after, "limit": state.window.limit, "window": period},
    )
    return HttpError(429, body, headers={"Retry-After": str(retry_after)})


def _describe_period(period: timedelta) -> str:
    seconds = period.total_seconds()
    number, unit = (seconds / 60, "minute") if seconds % 60 == 0 else (seconds, "second")
    return f"{number:g} {unit}" if number == 1 else f"{number:g} {unit}s"
