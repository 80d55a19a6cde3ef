"""What stands before each call to the outside, so that neither side hurts the other.

A guard lets a call pass, or defers it: that uses no attempt and no prefetch slot. A chain of guards is a list, the
outermost first; `GuardChain` enters it. Each port (agent, recogniser, callback) has one small class that calls inside
of its chain.
"""

from eai_common.guards.breaker import BreakerRules, BreakerState, CircuitBreaker, CircuitOpen, Judge
from eai_common.guards.budget import BudgetRules, RetryBudget
from eai_common.guards.bulkhead import Bulkhead
from eai_common.guards.by_target import GuardsByTarget
from eai_common.guards.deadline import TimeLimit, deadline_scope
from eai_common.guards.guard import Call, Guard, GuardChain, GuardWait, enforce_max_wait
from eai_common.guards.limit import Limiter, RateLimit
from eai_common.guards.measure import Measure
from eai_common.guards.retry_after import LONGEST_PAUSE, bound_pause, parse_retry_after
from eai_common.guards.windows import Taken, Window, WindowState, calls_per_minute

__all__ = [
    "LONGEST_PAUSE",
    "BreakerRules",
    "BreakerState",
    "BudgetRules",
    "Bulkhead",
    "Call",
    "CircuitBreaker",
    "CircuitOpen",
    "Guard",
    "GuardWait",
    "GuardsByTarget",
    "Judge",
    "Limiter",
    "Measure",
    "RateLimit",
    "RetryBudget",
    "Taken",
    "TimeLimit",
    "Window",
    "WindowState",
    "bound_pause",
    "calls_per_minute",
    "deadline_scope",
    "enforce_max_wait",
    "GuardChain",
    "parse_retry_after",
]
