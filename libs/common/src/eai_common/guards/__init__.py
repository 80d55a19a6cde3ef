"""What protects a call to the outside, and the other side from us."""

from eai_common.guards.breaker import BreakerRules, BreakerState, CircuitBreaker, CircuitOpen, Judge
from eai_common.guards.retry_after import LONGEST_PAUSE, bound_pause, parse_retry_after
from eai_common.guards.windows import Taken, Window, WindowState

__all__ = [
    "LONGEST_PAUSE",
    "bound_pause",
    "parse_retry_after",
    "BreakerRules",
    "BreakerState",
    "CircuitBreaker",
    "CircuitOpen",
    "Judge",
    "Taken",
    "Window",
    "WindowState",
]
