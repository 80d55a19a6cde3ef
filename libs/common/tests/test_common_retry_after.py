"""`Retry-After`: whatever another side sends, the pause is bounded, and nothing raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.guards import LONGEST_PAUSE, parse_retry_after
from eai_common.topology import LADDER

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seconds_of(value: str | None) -> float | None:
    pause = parse_retry_after(value, now=NOW)
    return None if pause is None else pause.total_seconds()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("7.", 7),
        ("0", 0),
        ("-5", 0),
        ("+5", 5),
        ("999999999999", 6 * 3600),
        ("9" * 5000, 6 * 3600),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("Thursday, 01-Jan-26 12:01:00 GMT", 60),
        ("Thu Jan  1 12:01:00 2026", 60),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60),
        ("Thu, 01 Jan 2026 09:01:00 -0300", 60),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Fri, 01 Jan 2027 12:00:00 GMT", 6 * 3600),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 6 * 3600),
        ("Mon, 01 Jan 0001 00:00:00 +1200", 0),
        (f"Thu, 01 Jan 2026 {'9' * 20}:00:00 GMT", None),
        (f"Thu, 01 Jan {'9' * 20} 12:00:00 GMT", None),
        (f"Thu, 01 Jan 2026 12:00:00 +{'9' * 20}", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("²", None),
        ("٧", None),
        ("", None),
        (None, None),
    ],
)
def test_a_pause_is_seconds_or_a_date_and_bounded(value: str | None, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


NUMBERS = st.from_regex(r"[+-]?[0-9]{1,40}(\.[0-9]{0,20})?", fullmatch=True)
DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    *[st.sampled_from(["Thu", "Mon", ""]), st.integers(-1, 40) | st.integers(0, 10**25)],
    *[st.sampled_from(["Jan", "Dec", "13"]), st.integers(0, 10_000) | st.integers(0, 10**25)],
    *[st.integers(-1, 70) | st.integers(0, 10**25)] * 3,
    st.sampled_from(["GMT", "-0000", "+0100", "-9999", "+" + "9" * 20, "", "PST"]),
)


@given(st.text(max_size=60) | NUMBERS | DATES)
def test_no_value_is_so_strange_that_it_raises_or_asks_for_more_than_the_longest(value: str) -> None:
    pause = parse_retry_after(value, now=NOW)
    assert pause is None or timedelta() <= pause <= LONGEST_PAUSE


@given(st.integers(-(10**6), 10**6))
def test_a_number_and_the_date_that_it_means_are_the_same_pause(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert seconds_of(date) == seconds_of(str(seconds))


def test_the_longest_pause_is_the_longest_rung_of_the_delay_ladder() -> None:
    assert max(LADDER) == LONGEST_PAUSE
