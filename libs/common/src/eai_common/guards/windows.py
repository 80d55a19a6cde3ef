"""How often something may happen, and what came of an attempt to do it once more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Taken", "Window", "WindowState", "calls_per_minute"]

_MARGIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` times in any `period`. Raises ValueError for a limit below 1 or a period below 1 ms."""

    limit: int
    period: timedelta

    def __post_init__(self) -> None:
        if self.limit < 1 or self.period < timedelta(milliseconds=1):
            raise ValueError(f"a window has a limit of at least 1 and a period of at least 1 ms, not {self}")


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window after an attempt to take a place: how many are left, and how long until there is one more."""

    window: Window
    remaining: int
    frees_in: timedelta


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of an attempt to take a place. A refused attempt has used up nothing."""

    is_allowed: bool
    states: tuple[WindowState, ...]  # in the order of the windows that were asked for

    @property
    def retry_after(self) -> timedelta:
        """How long until every window has a place; zero if there is one now."""
        return max((state.frees_in for state in self.states if state.remaining == 0), default=timedelta())


def calls_per_minute(limit: int) -> tuple[Window, ...]:
    """Return the window of `limit` calls a minute, as a provider counts them; none for 0, which is no limit.

    It is a second longer than a minute: one call takes longer to the provider than another, and the calls of two of our
    minutes must not meet in one of the provider's.
    """
    return (Window(limit, timedelta(minutes=1) + _MARGIN),) if limit else ()
