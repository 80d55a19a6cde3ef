"""Whose turn it is: the port, and the step that asks it. A stage without one takes deliveries as they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol

from eai_common.errors import Deferred
from eai_common.stage.runtime import Runtime, best_effort
from eai_common.stage.work import Done, Verdict, Work

__all__ = ["Ends", "NotYourTurn", "Turns", "take_turn"]


class NotYourTurn(Deferred):
    """An earlier message of the same user has not ended."""

    error_code = "NOT_YOUR_TURN"


class Ends(Protocol):
    """Who is told that messages have ended, so that what waited for them may go."""

    async def ended(self, user_number: str, message_ids: Sequence[str]) -> None:
        """Called after what follows the messages was confirmed, perhaps again. Raises StoreUnavailable."""


class Turns(Ends, Protocol):
    """Lets the messages of one user go one after the other."""

    async def take(self, work: Work) -> None:
        """Return if the delivery may go now; `work` then says what goes with it, or that another copy does it all.

        Raises NotYourTurn or StoreUnavailable.
        """

    async def hold(self, work: Work, delay: timedelta) -> None:
        """The delivery had its turn and is put off on purpose; it keeps its place. Raises StoreUnavailable."""


async def take_turn(runtime: Runtime, work: Work, proceed: Callable[[Work], Awaitable[Verdict]]) -> Verdict:
    """Wait for the user's earlier messages. Raises NotYourTurn, StoreUnavailable."""
    if runtime.turns is None:
        return await proceed(work)
    await runtime.turns.take(work)
    if work.is_spare:
        return Done(None)
    try:
        return await proceed(work)
    except Deferred as error:
        await best_effort(runtime.turns.hold(work, error.delay))
        raise
