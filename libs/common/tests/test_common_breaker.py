"""A circuit breaker: when calls pass, when they do not, and what its metrics say meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.clock import Deadline
from eai_common.guards import BreakerRules, BreakerState, Call, CircuitBreaker, CircuitOpen
from eai_common.telemetry import Metrics
from eai_common.testing import pass_time

pytestmark = pytest.mark.virtual_time

RULES = BreakerRules(failures_to_open=3, open_for=timedelta(seconds=10), longest_open=timedelta(seconds=35), probes=2)


class Down(Exception):
    """It is down."""


class Answered(Exception):
    """It said no, so it is up."""


class Unclear(Exception):
    """It says nothing."""


class Scene:
    """A breaker with a judge that knows the errors above."""

    def __init__(self, rules: BreakerRules = RULES, random: float = 0.0) -> None:
        self.metrics = Metrics()
        self.under_way: list[AbstractAsyncContextManager[Call]] = []  # a dropped one would end
        self.breaker = CircuitBreaker("a", rules, judge=_judge, random=lambda: random, metrics=self.metrics)

    async def call(self, error: BaseException | None = None) -> None:
        with suppress(Down, Answered, Unclear, asyncio.CancelledError):
            async with self.breaker.enter(a_call()):
                if error is not None:
                    raise error

    async def fail(self, times: int) -> None:
        for _ in range(times):
            await self.call(Down())

    async def refusal(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            async with self.breaker.enter(a_call()):
                pytest.fail("the call was let through")
        return caught.value

    async def open_and_wait(self, seconds: float = 10) -> None:
        await self.fail(3)
        await pass_time(timedelta(seconds=seconds))

    async def begun(self) -> AbstractAsyncContextManager[Call]:
        call = self.breaker.enter(a_call())
        await call.__aenter__()
        self.under_way.append(call)
        return call

    def is_now(self, state: BreakerState) -> bool:
        return self.breaker.state is state

    def gauge(self, state: str) -> float | None:
        return self.metrics.registry.get_sample_value("circuit_breaker_state", {"service": "a", "state": state})

    def openings(self) -> float | None:
        return self.metrics.registry.get_sample_value("circuit_breaker_openings_total", {"service": "a"})


def _judge(error: BaseException) -> bool | None:
    return None if isinstance(error, Unclear) else isinstance(error, Down)


def a_call() -> Call:
    return Call(Deadline.after(timedelta(minutes=1)))


async def _end(call: AbstractAsyncContextManager[Call], error: BaseException | None = None) -> None:
    kind = None if error is None else type(error)
    assert not await call.__aexit__(kind, error, None)


async def test_failures_in_a_row_open_it() -> None:
    scene = Scene()
    await scene.fail(2)
    assert scene.is_now(BreakerState.CLOSED)
    await scene.fail(1)
    assert scene.is_now(BreakerState.OPEN)


@pytest.mark.parametrize("between", [None, Answered()], ids=["an answer", "an answer that is an error"])
async def test_an_answer_between_two_failures_starts_the_count_anew(between: BaseException | None) -> None:
    scene = Scene()
    await scene.fail(2)
    await scene.call(between)
    await scene.fail(2)
    assert scene.is_now(BreakerState.CLOSED)


@pytest.mark.parametrize("unclear", [Unclear(), asyncio.CancelledError()], ids=["unclear", "cancelled"])
async def test_what_says_nothing_neither_counts_nor_starts_the_count_anew(unclear: BaseException) -> None:
    scene = Scene()
    await scene.fail(2)
    for _ in range(5):
        await scene.call(unclear)
    assert scene.is_now(BreakerState.CLOSED)
    await scene.fail(1)
    assert scene.is_now(BreakerState.OPEN)


@pytest.mark.parametrize(("random", "delay_s"), [(0.0, 6), (0.5, 9), (1.0, 12)])
async def test_whoever_is_sent_away_comes_back_when_it_may_be_over_each_a_bit_later(
    random: float, delay_s: int
) -> None:
    scene = Scene(random=random)
    await scene.open_and_wait(4)
    assert (await scene.refusal()).delay == timedelta(seconds=delay_s)


async def test_once_its_time_is_over_only_as_many_as_are_probes_pass_at_a_time() -> None:
    scene = Scene()
    await scene.open_and_wait()
    first, second = await scene.begun(), await scene.begun()
    assert (await scene.refusal()).delay > timedelta()
    await _end(first, Unclear())
    await _end(second, asyncio.CancelledError())
    await scene.begun()  # two that said nothing made place for others
    await scene.begun()
    await scene.refusal()


async def test_it_closes_once_all_probes_have_worked() -> None:
    scene = Scene()
    await scene.open_and_wait()
    await scene.call()
    assert scene.is_now(BreakerState.HALF_OPEN)
    await scene.call(Answered())
    assert scene.is_now(BreakerState.CLOSED)


async def test_one_probe_that_fails_opens_it_again() -> None:
    scene = Scene()
    await scene.open_and_wait()
    await scene.call()
    await scene.fail(1)
    assert scene.is_now(BreakerState.OPEN)


async def test_it_stays_open_twice_as_long_each_time_up_to_a_bound_and_briefly_again_after_it_had_closed() -> None:
    scene = Scene()
    await scene.fail(2)
    seen = []
    for _ in range(4):
        await scene.fail(1)
        seen.append((await scene.refusal()).delay.total_seconds())
        await pass_time(timedelta(seconds=seen[-1]))
    await scene.call()
    await scene.call()
    await scene.fail(3)
    seen.append((await scene.refusal()).delay.total_seconds())
    assert seen == [10, 20, 35, 35, 10]


@pytest.mark.parametrize("late", [None, Down()], ids=["worked", "failed"])
async def test_a_call_from_before_it_opened_says_nothing_when_it_ends_later(late: BaseException | None) -> None:
    scene = Scene()
    stragglers = [await scene.begun() for _ in range(3)]
    await scene.open_and_wait(4)
    for straggler in stragglers:
        await _end(straggler, late)
    assert (await scene.refusal()).delay == timedelta(seconds=6)
    assert scene.openings() == 1


async def test_a_straggler_gives_no_place_to_a_third_probe() -> None:
    scene = Scene()
    straggler = await scene.begun()
    await scene.open_and_wait()
    await scene.begun()
    await scene.begun()
    await _end(straggler)
    await scene.refusal()


async def test_a_pause_lets_nothing_pass_until_it_is_over_and_is_no_opening() -> None:
    scene = Scene()
    scene.breaker.pause(timedelta(seconds=7))
    assert (await scene.refusal()).delay == timedelta(seconds=7)
    await pass_time(timedelta(seconds=7))
    await scene.call()
    assert (scene.breaker.state, scene.openings()) == (BreakerState.CLOSED, None)


async def test_a_pause_is_no_longer_than_the_longest_opening() -> None:
    scene = Scene()
    scene.breaker.pause(timedelta(days=3))
    assert (await scene.refusal()).delay == RULES.longest_open


async def test_metrics_tell_the_state_and_count_the_openings() -> None:
    scene = Scene()
    seen = [[scene.gauge(state) for state in BreakerState]]
    await scene.open_and_wait()
    seen.append([scene.gauge(state) for state in BreakerState])
    await scene.call()
    seen.append([scene.gauge(state) for state in BreakerState])
    await scene.call()
    seen.append([scene.gauge(state) for state in BreakerState])
    assert seen == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert scene.openings() == 1


STEPS = st.lists(st.sampled_from(["work", "fail", "unclear", "begin", "end", "wait"]), max_size=60)


@given(STEPS)
async def test_whatever_happens_it_lets_somebody_pass_again_once_all_under_way_has_ended(
    steps: list[str],
) -> None:
    scene = Scene()
    under_way: list[AbstractAsyncContextManager[Call]] = []
    for step in steps:
        try:
            match step:
                case "work" | "fail" | "unclear":
                    await scene.call({"work": None, "fail": Down(), "unclear": Unclear()}[step])
                case "begin":
                    under_way.append(await scene.begun())
                case "end" if under_way:
                    await _end(under_way.pop(0))
                case _:
                    await pass_time(timedelta(seconds=3))
        except CircuitOpen:
            continue
    for call in under_way:
        await _end(call, Unclear())
    await pass_time(RULES.longest_open)
    for _ in range(RULES.probes):
        await scene.call()
    assert scene.is_now(BreakerState.CLOSED)
