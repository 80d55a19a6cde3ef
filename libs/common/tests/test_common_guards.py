"""What the guards share: bookings, the end of a call, and guards of their own for each target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from eai_common.clock import Deadline
from eai_common.errors import Retriable
from eai_common.guards import (
    Bulkhead,
    Call,
    Guard,
    GuardChain,
    GuardsByTarget,
    GuardWait,
    TimeLimit,
    deadline_scope,
)
from eai_common.guards.booking import Booking
from eai_common.testing import pass_time

pytestmark = pytest.mark.virtual_time

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


class TooLate(Retriable):
    """The call did not end in time."""


def within(seconds: float, target: str = "a") -> Call:
    return Call(Deadline.after(timedelta(seconds=seconds)), target)


# --- booking ---------------------------------------------------------------------------------------------------------


async def test_places_are_booked_after_the_first_that_becomes_free() -> None:
    booking = Booking(lambda: 0.0, horizon=MINUTE)
    assert [booking.wait(first=10 * SECOND, step=SECOND) for _ in range(3)] == [10 * SECOND, 11 * SECOND, 12 * SECOND]


async def test_what_was_booked_is_over_once_its_time_has_passed() -> None:
    booking = Booking(lambda: 0.0, horizon=MINUTE)
    for _ in range(30):
        booking.wait(first=SECOND, step=SECOND)
    await pass_time(30 * SECOND)
    assert booking.wait(first=SECOND, step=SECOND) == SECOND


@pytest.mark.parametrize(("random", "waits_s"), [(0.0, 30), (1.0, 60)])
async def test_beyond_the_horizon_nothing_is_booked(random: float, waits_s: int) -> None:
    booking = Booking(lambda: random, horizon=MINUTE)
    waits = [booking.wait(first=SECOND, step=SECOND) for _ in range(500)]
    assert waits[59] == MINUTE
    assert set(waits[60:]) == {timedelta(seconds=waits_s)}


async def test_a_place_that_is_free_beyond_the_horizon_only_is_booked_once() -> None:
    booking = Booking(lambda: 0.0, horizon=MINUTE)
    waits = [booking.wait(first=10 * MINUTE, step=MINUTE) for _ in range(2)]
    assert waits == [10 * MINUTE, MINUTE / 2]


# --- the end of a call -----------------------------------------------------------------------------------------------


async def test_what_runs_past_its_deadline_ends_there_with_the_error_of_its_port() -> None:
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(TooLate, match="Letta did not answer before the deadline"):
        async with deadline_scope(Deadline.after(SECOND), "Letta", TooLate):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(1)


async def test_once_the_deadline_has_passed_nothing_runs() -> None:
    with pytest.raises(TooLate, match="no time was left to ask Letta"):
        async with deadline_scope(Deadline.after(timedelta()), "Letta", TooLate):
            pytest.fail("it ran")


@pytest.mark.parametrize(("longest", "given_s"), [(20 * SECOND, 20), (MINUTE * 10, 30), (None, 30)])
async def test_a_time_limit_makes_a_deadline_earlier_and_never_later(longest: timedelta | None, given_s: int) -> None:
    async with TimeLimit("a", longest, TooLate).enter(within(30)) as call:
        assert call.deadline.remaining_s() == given_s


async def test_a_call_whose_deadline_has_passed_is_not_made() -> None:
    with pytest.raises(TooLate):
        async with TimeLimit("a", None, TooLate).enter(within(0)):
            pytest.fail("it was made")


# --- chains and targets ----------------------------------------------------------------------------------------------


async def test_the_guards_of_a_chain_are_entered_in_their_order_and_hand_the_call_on() -> None:
    chain = [TimeLimit("a", 20 * SECOND, TooLate), TimeLimit("b", 10 * SECOND, TooLate)]
    async with GuardChain(chain, within(30)) as call:
        assert call.deadline.remaining_s() == 10


@dataclass
class Noting:
    """Notes who enters and leaves, and with which error; may refuse, or raise another error in place of the first."""

    name: str
    log: list[str]
    refuses: bool = False
    replaces: bool = False

    @asynccontextmanager
    async def enter(self, call: Call) -> AsyncIterator[Call]:
        if self.refuses:
            raise GuardWait("not now", delay=SECOND)
        self.log.append(f"in {self.name}")
        try:
            yield call
        except BaseException as error:
            self.log.append(f"{type(error).__name__} {self.name}")
            if self.replaces:
                raise TooLate(self.name) from error
            raise
        else:
            self.log.append(f"out {self.name}")


async def test_guards_are_left_in_the_reverse_order() -> None:
    log: list[str] = []
    async with GuardChain([Noting("a", log), Noting("b", log)], within(9)):
        log.append("call")
    assert log == ["in a", "in b", "call", "out b", "out a"]


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError()], ids=["an error", "a cancellation"])
async def test_what_the_call_raises_reaches_every_guard_and_the_caller(error: BaseException) -> None:
    log: list[str] = []
    with pytest.raises(type(error)) as caught:
        async with GuardChain([Noting("a", log), Noting("b", log)], within(9)):
            raise error
    assert caught.value is error
    assert log[2:] == [f"{type(error).__name__} b", f"{type(error).__name__} a"]


async def test_an_error_that_a_guard_raises_in_place_of_another_reaches_those_around_it() -> None:
    log: list[str] = []
    with pytest.raises(TooLate, match="b") as caught:
        async with GuardChain([Noting("a", log), Noting("b", log, replaces=True)], within(9)):
            raise KeyError("x")
    assert log[2:] == ["KeyError b", "TooLate a"]
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_guard_that_refuses_leaves_those_around_it() -> None:
    log: list[str] = []
    with pytest.raises(GuardWait):
        async with GuardChain([Noting("a", log), Noting("b", log, refuses=True), Noting("c", log)], within(9)):
            pytest.fail("the call was made")
    assert log == ["in a", "GuardWait a"]


def by_target(max_targets: int) -> GuardsByTarget:
    def one_at_a_time(target: str) -> Sequence[Guard]:
        return [Bulkhead(target, 1, refusal=GuardWait, random=lambda: 0.0)]

    return GuardsByTarget(one_at_a_time, max_targets=max_targets)


async def test_one_targets_trouble_is_no_others() -> None:
    guard = by_target(9)
    async with guard.enter(within(9, "a")), guard.enter(within(9, "b")):
        with pytest.raises(GuardWait, match="a has 1 calls"):
            async with guard.enter(within(9, "a")):
                pytest.fail("a second call to the same target")


async def test_targets_are_forgotten_when_they_are_many_but_not_while_they_are_called() -> None:
    guard = by_target(3)
    async with guard.enter(within(9, "called")):
        for number in range(100):
            async with guard.enter(within(9, f"{number}")):
                pass
        assert (len(guard._targets), "called" in guard._targets) == (3, True)
        with pytest.raises(GuardWait):
            async with guard.enter(within(9, "called")):
                pytest.fail("its guards were forgotten")
