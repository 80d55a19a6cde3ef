"""Deadlines: the sooner of two, and what is left for what comes after."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eai_common.clock import Deadline

pytestmark = pytest.mark.virtual_time


def after(seconds: float) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


@pytest.mark.parametrize(("own_s", "limit_s", "left_s"), [(30, 10, 10), (30, 60, 30), (0, 10, 0)])
async def test_a_deadline_within_a_limit_is_the_sooner_of_both(own_s: float, limit_s: float, left_s: float) -> None:
    assert after(own_s).within(timedelta(seconds=limit_s)).remaining_s() == left_s


@pytest.mark.parametrize(("own_s", "left_s"), [(300, 299), (10, 9), (1, 0.9), (0, 0)])
async def test_a_margin_is_kept_but_never_more_than_a_tenth(own_s: float, left_s: float) -> None:
    assert after(own_s).less(timedelta(seconds=1)).remaining_s() == pytest.approx(left_s)
