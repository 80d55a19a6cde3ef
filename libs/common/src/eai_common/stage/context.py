"""What a handler is told about the delivery it handles, beside the event itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from eai_common.clock import Clock, Deadline

__all__ = ["Attempt", "StageContext"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a delivery, as the retry policy sees it."""

    number: int  # 1 is the first delivery
    waited: timedelta = timedelta()  # in the delay ladder, all tries together


@dataclass(frozen=True, slots=True)
class StageContext:
    """Made anew for each delivery. `deadline` is the only timeout there is; hand it inwards."""

    deadline: Deadline
    attempt: Attempt
    clock: Clock
    is_replayed: bool = False
    """Whether an earlier owner of this delivery may have got as far as the provider before it died."""
