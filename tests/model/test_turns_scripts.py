"""The scripts in Redis do what the state machine does: any calls leave the same state, and have the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model.twin import RULES, USER, Twin, random_steps

# No shrinking: it takes minutes, and the first difference says what there is to say.
_EXAMPLES = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=["in the process", "a real one"])
def connection(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    if request.param == "in the process":
        with fakeredis.FakeRedis(protocol=2) as connection:
            yield connection
    else:
        server = request.getfixturevalue("redis_server")
        with redis.Redis.from_url(server.url, protocol=2) as connection:
            yield connection


@_EXAMPLES
@given(random=st.randoms(use_true_random=False), which=st.integers(0, len(RULES) - 1))
def test_any_calls_leave_the_same_state_and_have_the_same_answers(
    connection: redis.Redis, random: Random, which: int
) -> None:
    twin = Twin(connection, RULES[which])
    twin.clear()
    assert twin.differences(random_steps(random, RULES[which], 40)) == ""


def test_every_key_has_a_time_to_live(connection: redis.Redis) -> None:
    twin = Twin(connection, RULES[0])
    twin.clear()
    twin.differences(random_steps(Random(3), RULES[0], 60))
    keys = [key for key in connection.scan_iter(f"*{{{USER}}}*") if not key.startswith(b"now:")]
    assert {key.partition(b":")[0] for key in keys} == {b"inbox", b"ended"}
    assert [key for key in keys if connection.pttl(key) < 0] == []
