"""Where a recording is cut."""

from __future__ import annotations

import array

from hypothesis import given
from hypothesis import strategies as st

from eai_transcriber.pauses import find_quietest_point

RATE = 1000  # small numbers: a frame is 20 samples, a pause 300


def point(samples: list[int]) -> int:
    return find_quietest_point(memoryview(array.array("h", samples)), RATE)


def test_the_cut_is_in_the_middle_of_the_only_pause() -> None:
    assert point([900] * 2000 + [0] * 300 + [900] * 700) == 2150


def test_of_two_equal_pauses_the_later_is_taken() -> None:
    assert point([900] * 500 + [0] * 300 + [900] * 500 + [0] * 300 + [900] * 400) == 1450


def test_a_moment_of_silence_inside_a_word_is_no_pause() -> None:
    assert point([900] * 1000 + [0] * 40 + [900] * 1000 + [5] * 300 + [900] * 660) == 2190


def test_too_short_for_a_pause_is_cut_at_the_end() -> None:
    assert point([1] * 299) == 299


@given(st.lists(st.integers(-32768, 32767), max_size=2000))
def test_the_cut_always_lies_inside(samples: list[int]) -> None:
    assert 0 <= point(samples) <= len(samples)


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_silence_of_twice_a_pause_is_always_found(before: int, after: int) -> None:
    cut = point([900] * before + [0] * 600 + [900] * after)
    assert before <= cut <= before + 600
