"""When a failed try is tried again: the bounds of every wait, and the last attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.retry import Backoff, Schedule

ATTEMPTS = st.integers(1, 10_000)
BASES = st.timedeltas(timedelta(milliseconds=1), timedelta(days=10_000))
LONGEST = st.timedeltas(timedelta(seconds=1), timedelta(days=1))
RANDOM = st.floats(0, 1, exclude_max=True)
MICROSECOND = timedelta(microseconds=1)


def constant(value: float) -> Callable[[], float]:
    return lambda: value


@pytest.mark.parametrize(("retries", "attempt", "allowed"), [(0, 1, False), (5, 1, True), (5, 5, True), (5, 6, False)])
def test_as_many_tries_follow_the_first_as_were_allowed(retries: int, attempt: int, allowed: bool) -> None:
    assert Backoff(retries).allows_another(attempt) is allowed


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (50, 600)],
)
def test_the_longest_wait_doubles_with_each_try_up_to_ten_minutes_and_any_part_of_it_is_likely(
    attempt: int, longest: float
) -> None:
    policy = Backoff()
    waits = [policy.delay(attempt, retry_after=None, random=constant(at)).total_seconds() for at in (0, 0.5, 1)]
    assert waits == pytest.approx([0, longest / 2, longest])


@given(ATTEMPTS, BASES, LONGEST, RANDOM)
def test_a_wait_is_never_longer_than_the_longest(
    attempt: int, base: timedelta, longest: timedelta, random: float
) -> None:
    wait = Backoff(base=base, longest=longest).delay(attempt, retry_after=None, random=constant(random))
    assert timedelta() <= wait <= longest + MICROSECOND


@given(ATTEMPTS, RANDOM, st.timedeltas(timedelta(0), timedelta(minutes=10)))
def test_a_wait_is_never_shorter_than_the_providers_wish(attempt: int, random: float, retry_after: timedelta) -> None:
    assert Backoff().delay(attempt, retry_after=retry_after, random=constant(random)) >= retry_after


def test_those_whom_a_provider_gave_the_same_wish_do_not_come_back_all_at_once() -> None:
    wish = timedelta(seconds=30)
    waits = {Backoff().delay(1, retry_after=wish, random=constant(at / 100)) for at in range(100)}
    assert len(waits) == 100


def test_a_provider_that_wishes_for_days_is_asked_again_after_the_longest_wait() -> None:
    assert Backoff().delay(1, retry_after=timedelta(days=3), random=constant(0)) == timedelta(minutes=10)


@given(ATTEMPTS, RANDOM, BASES)
def test_a_later_try_never_waits_less_at_the_same_luck(attempt: int, random: float, base: timedelta) -> None:
    policy = Backoff(base=base)
    first, next_ = (
        policy.delay(number, retry_after=None, random=constant(random)) for number in (attempt, attempt + 1)
    )
    assert first <= next_


def test_the_wait_is_spread_so_that_a_storm_does_not_come_back_as_one() -> None:
    waits = {Backoff().delay(3, retry_after=None, random=constant(at / 100)) for at in range(100)}
    assert len(waits) == 100


SCHEDULE = Schedule((timedelta(seconds=1), timedelta(seconds=30)))


@pytest.mark.parametrize(("attempt", "allowed"), [(1, True), (2, True), (3, False)])
def test_a_schedule_allows_one_retry_for_each_of_its_waits(attempt: int, allowed: bool) -> None:
    assert SCHEDULE.allows_another(attempt) is allowed


@given(RANDOM)
def test_a_schedule_waits_as_it_says_without_jitter(random: float) -> None:
    waits = [SCHEDULE.delay(attempt, retry_after=None, random=constant(random)) for attempt in (1, 2)]
    assert waits == list(SCHEDULE.waits)


def test_a_schedule_honours_a_longer_wish() -> None:
    assert SCHEDULE.delay(1, retry_after=timedelta(minutes=2), random=constant(0)) == timedelta(minutes=2)
