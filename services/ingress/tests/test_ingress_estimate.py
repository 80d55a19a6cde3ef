"""How long a client is told to wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.messages import MessageType
from eai_common.store import Completion, StoreUnavailable
from eai_ingress.estimate import WaitEstimator, backlog_s, in_words

UNKNOWN = "1-60 seconds"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


def completed(*took: float, every_s: float = 1.0) -> list[Completion]:
    """Messages that were completed one after the other, newest first."""
    return [
        Completion(timedelta(seconds=one), NOON - number * timedelta(seconds=every_s))
        for number, one in enumerate(took)
    ]


@dataclass
class FakeLatency:
    """Recent times, which may be out of reach."""

    done: list[Completion] = field(default_factory=list)
    is_down: bool = False

    async def completions(self, message_type: MessageType) -> list[Completion]:
        if self.is_down:
            raise StoreUnavailable("Redis: ConnectionError")
        return self.done if message_type == "text" else []


@pytest.fixture()
def latency() -> FakeLatency:
    return FakeLatency(completed(*([2.0] * 80 + [4.5] * 20)))


@pytest.fixture()
def estimator(latency: FakeLatency) -> WaitEstimator:
    return WaitEstimator(latency)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([], UNKNOWN),
        (seconds(0), "1-2 seconds"),
        (seconds(0.2, 0.3), "1-2 seconds"),
        (seconds(2, 2, 2, 4.1), "2-5 seconds"),
        (seconds(*range(1, 101)), "51-91 seconds"),
        (seconds(300), "300-301 seconds"),
    ],
    ids=str,
)
def test_the_estimate_is_the_middle_and_the_slow_end_of_recent_times(times: list[timedelta], words: str) -> None:
    assert in_words(times) == words


@pytest.mark.parametrize(
    ("backlog", "words"),
    [(0.0, "2-5 seconds"), (1.0, "3-5 seconds"), (60.0, "62-63 seconds")],
    ids=["none", "small", "large"],
)
def test_a_backlog_comes_before_the_fastest_of_recent_times(backlog: float, words: str) -> None:
    assert in_words(seconds(2, 2, 2, 4.1), backlog) == words


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=1)), max_size=100), st.floats(0, 1e6))
def test_an_estimate_is_always_a_range_of_whole_seconds(times: list[timedelta], backlog: float) -> None:
    range_, unit = in_words(times, backlog).split(" ")
    low, high = map(int, range_.split("-"))
    assert (1 <= low < high, unit) == (True, "seconds")


def test_a_backlog_lasts_as_long_as_the_pipeline_needs_at_its_best_pace() -> None:
    quiet_then_busy = [
        *completed(*[1.0] * 50, every_s=0.5),
        Completion(timedelta(seconds=1), NOON - timedelta(hours=1)),
    ]
    assert backlog_s(quiet_then_busy, 100) == pytest.approx(50)


def test_a_backlog_is_unknown_before_enough_was_completed() -> None:
    assert backlog_s(completed(*[1.0] * 20), 1000) == 0.0
    assert backlog_s([Completion(timedelta(seconds=1), None)] * 100, 1000) == 0.0


async def test_what_stands_in_the_queues_makes_the_estimate_longer(estimator: WaitEstimator) -> None:
    await estimator.refresh({"text": 0})
    before = estimator.estimate("text")
    await estimator.refresh({"text": 600})
    assert (before, estimator.estimate("text")) == ("2-5 seconds", "602-603 seconds")


async def test_each_type_has_its_own_estimate(estimator: WaitEstimator) -> None:
    await estimator.refresh({"text": 0, "audio": 0})
    assert (estimator.estimate("text"), estimator.estimate("audio")) == ("2-5 seconds", UNKNOWN)


async def test_while_the_store_is_down_the_last_estimate_holds(estimator: WaitEstimator, latency: FakeLatency) -> None:
    await estimator.refresh({"text": 0})
    latency.is_down = True
    await estimator.refresh({"text": 1000})
    assert estimator.estimate("text") == "2-5 seconds"
