"""Message ids: laws of the check mark, held over all ids, keys and times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eai_common.clock import Clock, SystemClock
from eai_common.ids import Ids, _tag, issued_at
from eai_common.testing import RANDOM

KEYS = st.binary(max_size=64)
SEEDS = st.integers(min_value=0)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))


class ClockAt:
    """A clock that stands still, or goes a millisecond with each look."""

    def __init__(self, moment: datetime, step: timedelta = timedelta()) -> None:
        self._moment = moment
        self._step = step

    def now(self) -> datetime:
        self._moment += self._step
        return self._moment


def ids(clock: Clock, key: bytes = b"", seed: int = 0) -> Ids:
    return Ids(clock, random.Random(seed), key)


def millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_an_id_is_a_uuid_of_version_7_in_its_canonical_form() -> None:
    message_id = Ids(SystemClock(), RANDOM).message_id()
    assert (str(UUID(message_id)), UUID(message_id).version) == (message_id, 7)


@given(MOMENTS, KEYS, SEEDS)
@example(datetime(6326, 1, 1, 0, 0, 0, 8988, tzinfo=UTC), b"", 0)  # floats lose a millisecond there
def test_an_id_of_ours_tells_when_it_was_issued(moment: datetime, key: bytes, seed: int) -> None:
    issued = issued_at(UUID(ids(ClockAt(moment), key, seed).message_id()), key)
    assert issued == millisecond(moment)


@given(SEEDS, st.integers(2, 200))
def test_no_two_ids_of_one_moment_are_alike(seed: int, count: int) -> None:
    made = ids(ClockAt(datetime(2026, 1, 1, tzinfo=UTC)), seed=seed)
    assert len({made.message_id() for _ in range(count)}) == count


def test_no_two_ids_of_ten_thousand_are_alike() -> None:
    made = Ids(SystemClock(), RANDOM)
    assert len({made.message_id() for _ in range(10_000)}) == 10_000


@given(MOMENTS.filter(lambda moment: moment.year < 9999), SEEDS, st.integers(2, 20))
def test_ids_are_in_the_order_of_their_milliseconds(moment: datetime, seed: int, count: int) -> None:
    made = ids(ClockAt(moment, timedelta(milliseconds=1)), seed=seed)
    in_turn = [made.message_id() for _ in range(count)]
    assert in_turn == sorted(in_turn)


@given(MOMENTS, KEYS, KEYS, SEEDS)
@example(datetime(2026, 1, 1, tzinfo=UTC), b"a", b"a\0", 0)
def test_an_id_made_with_another_key_is_not_ours(moment: datetime, ours: bytes, theirs: bytes, seed: int) -> None:
    message_id = UUID(ids(ClockAt(moment), theirs, seed).message_id())
    assert (issued_at(message_id, ours) is not None) == (ours == theirs)


def of_others() -> Iterator[UUID]:
    source = random.Random(7)
    for version in (1, 3, 4, 5, 7):
        for _ in range(2000):
            yield UUID(int=source.getrandbits(128), version=version if version != 7 else None)


def test_no_uuid_of_others_is_ours() -> None:
    assert [found for found in of_others() if issued_at(found) is not None] == []


@given(st.uuids(version=4) | st.uuids(version=1))
def test_a_uuid_of_another_version_is_not_ours(message_id: UUID) -> None:
    assert issued_at(message_id) is None


@given(MOMENTS, SEEDS, st.integers(0, 127))
def test_an_id_with_any_bit_turned_is_not_ours(moment: datetime, seed: int, bit: int) -> None:
    message_id = UUID(ids(ClockAt(moment), b"key", seed).message_id())
    assert issued_at(UUID(int=message_id.int ^ (1 << bit)), b"key") is None


@given(st.uuids() | st.integers(0, 2**128 - 1).map(lambda value: UUID(int=value)), KEYS)
def test_asking_when_any_uuid_was_issued_never_fails(message_id: UUID, key: bytes) -> None:
    assert issued_at(message_id, key) is None or message_id.version == 7


def test_an_id_that_a_stranger_dated_after_the_year_9999_is_not_ours() -> None:
    head = ((1 << 48) - 1) << 80 | 0x7 << 76 | 0b10 << 62
    assert issued_at(UUID(int=head | _tag(head, b""))) is None


def test_a_random_id_is_32_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(Ids(SystemClock(), RANDOM).random_id())) == 16


@pytest.mark.parametrize("seed", [1, 2])
def test_a_simulation_with_the_same_seed_makes_the_same_ids(seed: int) -> None:
    clock = ClockAt(datetime(2026, 1, 1, tzinfo=UTC))
    assert ids(clock, seed=seed).message_id() == ids(clock, seed=seed).message_id()
