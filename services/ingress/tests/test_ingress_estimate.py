"""How long a client is told to wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.messages import MessageType
from eai_common.store import StoreUnavailable
from eai_ingress.estimate import WaitEstimator, in_words

UNKNOWN = "1-60 seconds"


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


@dataclass
class HandClock:
    """A clock that is set by hand."""

    now_s: float = 100.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, duration: timedelta) -> None:
        raise NotImplementedError


@dataclass
class FakeLatency:
    """Recent times, which may be out of reach or slow."""

    times: list[timedelta] = field(default_factory=list)
    is_down: bool = False
    hangs: bool = False
    asked: list[MessageType] = field(default_factory=list)

    async def recent(self, message_type: MessageType) -> list[timedelta]:
        self.asked.append(message_type)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_down:
            raise StoreUnavailable("Redis: ConnectionError")
        return self.times


@pytest.fixture()
def clock() -> HandClock:
    return HandClock()


@pytest.fixture()
def latency() -> FakeLatency:
    return FakeLatency(seconds(2, 2, 2, 5))


@pytest.fixture()
def estimator(latency: FakeLatency, clock: HandClock) -> WaitEstimator:
    return WaitEstimator(latency, clock)


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


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=1)), max_size=100))
def test_an_estimate_is_always_a_range_of_whole_seconds(times: list[timedelta]) -> None:
    range_, unit = in_words(times).split(" ")
    low, high = map(int, range_.split("-"))
    assert (1 <= low < high, unit) == (True, "seconds")


async def test_the_store_is_asked_once_in_five_seconds_for_each_type(
    estimator: WaitEstimator, latency: FakeLatency, clock: HandClock
) -> None:
    for now_s, kind in ((100, "text"), (104, "text"), (104, "audio"), (105, "text")):
        clock.now_s = now_s
        await estimator.estimate(kind)  # type: ignore[arg-type]
    assert latency.asked == ["text", "audio", "text"]


async def test_requests_that_come_during_the_look_up_do_not_repeat_it(
    estimator: WaitEstimator, latency: FakeLatency
) -> None:
    told = await asyncio.gather(*(estimator.estimate("text") for _ in range(10)))
    assert (latency.asked, told[0], set(told[1:])) == (["text"], "2-5 seconds", {UNKNOWN})


async def test_while_the_store_is_down_the_last_estimate_holds(
    estimator: WaitEstimator, latency: FakeLatency, clock: HandClock
) -> None:
    before = await estimator.estimate("text")
    latency.is_down, clock.now_s = True, 200
    assert await estimator.estimate("text") == before == "2-5 seconds"


async def test_a_store_that_does_not_answer_delays_no_client_for_long(
    estimator: WaitEstimator, latency: FakeLatency
) -> None:
    latency.hangs = True
    async with asyncio.timeout(5):
        assert await estimator.estimate("text") == UNKNOWN
