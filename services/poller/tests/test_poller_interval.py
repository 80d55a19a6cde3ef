"""`Retry-After`: from how long the message has been here, and how long recent ones took."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_poller.poll_interval import next_poll_in
from eai_poller.testing import ACCEPTED, Poller, open_poller

SECOND = timedelta(seconds=1)
TIMES = st.lists(st.timedeltas(timedelta(0), 100 * SECOND), max_size=100)


@pytest.mark.parametrize(
    ("age_s", "times_s", "wait_s"),
    [
        (0, [], 1),
        (0, [2, 4, 6, 8], 4),
        (3, [2, 4, 6, 8], 1),
        (7, [2, 4, 6, 8], 1),
        (20, [2, 4, 6, 8], 5),
        (600, [2, 4, 6, 8], 15),
        (0, [60] * 10, 15),
        (0, [0.2] * 10, 1),
    ],
)
def test_a_client_asks_again_when_the_next_quarter_should_be_done(
    age_s: int, times_s: list[float], wait_s: float
) -> None:
    assert next_poll_in(age_s * SECOND, [one * SECOND for one in times_s]) == wait_s * SECOND


@given(st.timedeltas(timedelta(0), timedelta(days=2)), TIMES, st.timedeltas(-SECOND, timedelta(hours=1)))
def test_the_wait_is_between_1_and_15_seconds(
    age: timedelta, times: list[timedelta], next_attempt_in: timedelta
) -> None:
    assert SECOND <= next_poll_in(age, times, next_attempt_in=next_attempt_in) <= 15 * SECOND


def test_the_next_try_is_waited_for() -> None:
    assert next_poll_in(SECOND, [2 * SECOND], next_attempt_in=9 * SECOND) == 9 * SECOND


async def retry_after(poller: Poller, stage: str) -> str:
    message_id = poller.ids.message_id()
    await poller.tasks.note_queued(message_id, stage=stage, at=ACCEPTED)
    return str((await poller.get(message_id)).headers["retry-after"])


async def test_audio_is_asked_for_at_its_own_pace() -> None:
    async with open_poller() as poller:
        for message_type, took in (("text", b"2000"), ("audio", b"9000")):
            await poller.redis.driver.lpush(f"latency:{message_type}", *[took] * 10)
        assert (await retry_after(poller, "agent-router"), await retry_after(poller, "transcriber")) == ("2", "9")
