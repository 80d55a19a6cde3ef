"""The guards of each host: a few deliveries at a time, and none for a while to a host that is down.

A delivery that a guard does not let pass is deferred to the delay ladder. The state is this process's own: what one
replica learns about a host costs each of the others a few attempts, and needs no Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from eai_common.errors import Retriable
from eai_common.guards import BreakerRules, Bulkhead, CircuitBreaker, Guard, GuardsByTarget, GuardWait
from eai_formatter.callbacks.answers import CallbackFailed

__all__ = ["CallbackOverdue", "HostBusy", "HostDown", "HostRules", "guard_hosts"]


class CallbackOverdue(Retriable):
    """The delivery has waited for the host for so long that each further wait counts as a failed attempt."""

    error_code = "CALLBACK_OVERDUE"


class HostBusy(GuardWait):
    """This process has as many deliveries to the host under way as it may."""

    error_code = "CALLBACK_HOST_BUSY"
    overdue: ClassVar[type[Retriable]] = CallbackOverdue


class HostDown(GuardWait):
    """The host failed several times in a row, or asked for a pause."""

    error_code = "CALLBACK_HOST_DOWN"
    overdue: ClassVar[type[Retriable]] = CallbackOverdue


@dataclass(frozen=True, slots=True)
class HostRules:
    """How many deliveries a host gets at a time, and when it counts as down."""

    parallel: int = 10
    breaker: BreakerRules = BreakerRules(  # noqa: RUF009  # frozen
        open_for=timedelta(seconds=30), longest_open=timedelta(minutes=5), probes=1, spread=0.1
    )


def guard_hosts(rules: HostRules, random: Callable[[], float]) -> Guard:
    """Return one guard with a state for each host. Callers choose hosts, so a host is no metric label."""

    def host_guards(host: str) -> Sequence[Guard]:
        return [
            Bulkhead(host, rules.parallel, refusal=HostBusy, random=random),
            CircuitBreaker(host, rules.breaker, judge=_is_down, refusal=HostDown, random=random, metrics=None),
        ]

    return GuardsByTarget(host_guards)


def _is_down(error: BaseException) -> bool | None:
    return error.is_host_down if isinstance(error, CallbackFailed) else None
