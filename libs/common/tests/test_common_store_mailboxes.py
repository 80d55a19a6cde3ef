"""Mailboxes, and what checkpoints know of others' work: held by the in-process Redis and by a real one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eai_common.clock import SystemClock
from eai_common.settings import RedisSettings
from eai_common.store import (
    Abandoned,
    Acquired,
    Checkpoints,
    Mailboxes,
    Progress,
    RedisClient,
    open_memory_redis,
    open_redis,
)
from eai_common.store.mailboxes import Absent, Behind, MergeRule, Spare, Standing, TooEarly, YourTurn

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG = timedelta(hours=1)
RULE = MergeRule(window=timedelta(seconds=2), longest=timedelta(seconds=10))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def a_message() -> str:
    return str(uuid.uuid4())


class Box:
    """One user's mailbox; what is parked is the message's own id."""

    def __init__(self, redis: RedisClient) -> None:
        self.redis = redis
        self.mailboxes = Mailboxes(redis, LONG)
        self.user = f"+55{uuid.uuid4().int % 10**11:011d}"

    async def enter(self, *message_ids: str, when: float = 0) -> None:
        for message_id in message_ids:
            await self.mailboxes.enter(self.user, message_id, at=at(when))

    async def arrive(
        self, message_id: str, when: float = 1, *, copy: str = "", kind: str = "question", rule: MergeRule | None = None
    ) -> Standing:
        return await self.mailboxes.arrive(
            self.user, message_id, copy=copy, now=at(when), parked=f"{kind}\n{message_id}".encode(), merging=rule
        )

    async def end(self, *message_ids: str, when: float = 2) -> str | None:
        return _id(await self.mailboxes.end(self.user, message_ids, now=at(when)))

    async def pass_by(self, stuck: Standing, when: float = 99) -> tuple[bool, str | None]:
        assert isinstance(stuck, Behind)
        was_stuck, woken = await self.mailboxes.pass_by(self.user, stuck, now=at(when))
        return was_stuck, _id(woken)

    async def keys(self) -> Sequence[bytes | str]:
        return await self.redis.driver.keys(f"*{self.user}*")


def _id(parked: bytes | None) -> str | None:
    return None if parked is None else parked.partition(b"\n")[2].decode()


class MailboxContract:
    """What every mailbox does. A test class gives `redis`."""

    @pytest.fixture()
    def box(self, redis: RedisClient) -> Box:
        return Box(redis)

    async def test_the_order_is_that_of_acceptance_although_clocks_differ(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, when=10)
        await box.enter(second, when=3)  # by another ingress, whose clock is slow
        standing = await box.arrive(second)
        assert isinstance(standing, Behind)
        assert (standing.first, standing.rank) == (first, 1)
        assert await box.arrive(first) == YourTurn()

    async def test_entering_twice_changes_nothing(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second, first)
        assert isinstance(await box.arrive(second), Behind)

    async def test_the_end_of_the_first_gives_what_waits_next_until_it_is_taken_up(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second, third)
        await box.arrive(first)
        await box.arrive(second)
        assert await box.end(first) == second
        assert await box.end(first) == second  # whoever ended it may have died before it woke the second
        assert await box.arrive(second, copy="woken") == YourTurn()
        assert await box.end(first) is None
        assert await box.end(second) is None  # the third has not arrived, so it need not be woken
        assert await box.arrive(third) == YourTurn()

    async def test_the_end_of_one_that_is_not_first_wakes_nobody(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second, third)
        await box.arrive(first)
        await box.arrive(third)
        assert await box.end(second) is None

    async def test_one_copy_of_a_message_is_worked_on_and_the_others_are_spare(self, box: Box) -> None:
        message = a_message()
        await box.enter(message)
        assert await box.arrive(message, copy="woken") == YourTurn()
        assert await box.arrive(message, copy="waiting") == Spare()
        assert await box.arrive(message, copy="woken") == YourTurn()  # it comes again, to be tried again

    async def test_what_has_no_place_is_absent_and_can_be_given_one_by_its_time(self, box: Box) -> None:
        early, late = a_message(), a_message()
        assert await box.arrive(early) == Absent()
        await box.enter(late, when=5)
        await box.mailboxes.enter_late(box.user, early, accepted_at=at(1), now=at(9))
        assert await box.arrive(early) == YourTurn()

    async def test_a_place_given_late_is_behind_what_is_in_work(self, box: Box) -> None:
        early, working = a_message(), a_message()
        await box.enter(working, when=5)
        await box.arrive(working)
        await box.mailboxes.enter_late(box.user, early, accepted_at=at(1), now=at(9))
        assert isinstance(await box.arrive(early), Behind)

    async def test_passing_lets_the_next_go_and_the_passed_one_go_whenever_it_comes(self, box: Box) -> None:
        lost, second = a_message(), a_message()
        await box.enter(lost, second)
        stuck = await box.arrive(second)
        assert await box.pass_by(stuck) == (True, second)
        assert await box.arrive(second, copy="woken") == YourTurn()
        assert await box.arrive(lost) == YourTurn(was_passed=True)
        await box.end(second)
        await box.end(lost)
        assert await box.keys() == []

    async def test_one_that_came_forward_meanwhile_is_not_passed(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second)
        stuck = await box.arrive(second)
        await box.arrive(first, when=50)
        assert await box.pass_by(stuck) == (False, None)

    async def test_coming_again_to_be_tried_again_is_not_coming_forward(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second)
        await box.arrive(first, when=5)
        await box.arrive(first, when=50)
        standing = await box.arrive(second)
        assert isinstance(standing, Behind)
        assert standing.since == at(5)

    async def test_the_patience_with_a_message_begins_when_it_becomes_the_first(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second, third)
        await box.arrive(first)
        await box.end(first, when=300)
        standing = await box.arrive(third)
        assert isinstance(standing, Behind)
        assert standing.since == at(300)

    async def test_being_put_off_on_purpose_is_not_being_stuck(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second)
        await box.arrive(first)
        await box.mailboxes.hold(box.user, first, until=at(500), now=at(2))
        standing = await box.arrive(second)
        assert isinstance(standing, Behind)
        assert standing.since == at(500)

    async def test_an_empty_mailbox_leaves_nothing_behind(self, box: Box) -> None:
        messages = [a_message() for _ in range(3)]
        await box.enter(*messages)
        for message in messages:
            await box.arrive(message, rule=RULE, when=90)
        await box.end(*messages)
        assert await box.keys() == []

    async def test_every_key_has_a_time_to_live(self, box: Box) -> None:
        messages = [a_message() for _ in range(3)]
        await box.enter(*messages)
        for message in reversed(messages):
            await box.arrive(message)
        keys = await box.keys()
        assert len(keys) == 2
        assert [key for key in keys if not 0 < await box.redis.driver.ttl(key) <= LONG.total_seconds()] == []

    # Merging

    async def test_a_first_message_waits_until_nothing_came_for_a_while(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, when=0)
        assert await box.arrive(first, when=0.5, rule=RULE) == TooEarly(timedelta(seconds=1.5))
        await box.enter(second, when=1)
        await box.arrive(second, when=1.1)
        assert await box.arrive(first, when=2, rule=RULE) == TooEarly(timedelta(seconds=1))
        assert await box.arrive(first, when=3, rule=RULE) == YourTurn((f"question\n{second}".encode(),))

    async def test_it_does_not_wait_for_ever(self, box: Box) -> None:
        first = a_message()
        await box.enter(first, when=0)
        assert isinstance(await box.arrive(first, when=0, rule=RULE), TooEarly)
        for second in range(1, 11):
            await box.enter(a_message(), when=second)
        assert isinstance(await box.arrive(first, when=10, rule=RULE), YourTurn)

    async def test_a_turn_stays_as_it_was_formed(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second)
        await box.arrive(second)
        formed = await box.arrive(first, when=60, rule=RULE)
        await box.enter(third, when=60)
        await box.arrive(third, when=60)
        assert await box.arrive(first, when=70, rule=RULE) == formed == YourTurn((f"question\n{second}".encode(),))

    async def test_the_others_of_a_turn_wait_for_its_end(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second)
        await box.arrive(second)
        await box.arrive(first, when=60, rule=RULE)
        standing = await box.arrive(second, copy="waiting", when=61, rule=RULE)
        assert isinstance(standing, Behind)
        assert standing.first == first
        await box.end(first, second)
        assert await box.keys() == []

    async def test_messages_of_another_kind_end_a_turn_at_once(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second, third)
        await box.arrive(second)
        await box.arrive(third, kind="another")
        assert await box.arrive(first, when=1, rule=RULE) == YourTurn((f"question\n{second}".encode(),))

    async def test_when_only_the_first_of_a_turn_is_given_up_the_others_go_on(self, box: Box) -> None:
        first, second = a_message(), a_message()
        await box.enter(first, second)
        await box.arrive(second)
        await box.arrive(first, when=60, rule=RULE)
        assert await box.end(first) == second
        assert await box.arrive(second, copy="woken") == YourTurn()

    async def test_a_turn_that_is_passed_stays_together(self, box: Box) -> None:
        first, second, third = (a_message() for _ in range(3))
        await box.enter(first, second, third)
        await box.arrive(second)
        await box.arrive(third, kind="another")
        turn = await box.arrive(first, when=60, rule=RULE)
        assert isinstance(turn, YourTurn)
        stuck = await box.arrive(third, when=61, kind="another")
        assert await box.pass_by(stuck) == (True, third)
        assert isinstance(await box.arrive(second, copy="waiting"), Behind)
        assert await box.arrive(first) == YourTurn(turn.parked, was_passed=True)
        await box.end(first, second)
        await box.end(third)
        assert await box.keys() == []

    # What checkpoints know of others' work

    @pytest.fixture()
    def checkpoints(self, redis: RedisClient) -> Checkpoints:
        return Checkpoints(redis, stage="router", lease=LONG, ttl=LONG, clock=SystemClock())

    @pytest.mark.parametrize("is_given_up", [False, True])
    async def test_how_far_a_message_is_can_be_seen_by_others(
        self, checkpoints: Checkpoints, is_given_up: bool
    ) -> None:
        message = a_message()
        before = await checkpoints.peek(message)
        await checkpoints.claim(message, "one")
        during = await checkpoints.peek(message)
        began = datetime.now(UTC)
        await (checkpoints.give_up(message) if is_given_up else checkpoints.record(message, b"x"))
        after = await checkpoints.peek(message)
        assert (before, during) == (Progress(), Progress(is_in_work=True))
        assert after.ended_at is not None
        assert abs(after.ended_at - began) < timedelta(seconds=5)

    async def test_what_was_given_up_can_be_claimed_on_purpose_only(self, checkpoints: Checkpoints) -> None:
        message = a_message()
        await checkpoints.give_up(message)
        assert await checkpoints.claim(message, "one") == Abandoned()
        assert await checkpoints.claim_again(message, "one") == Acquired()


class TestMemoryMailboxes(MailboxContract):
    """The Redis in the process."""

    @pytest.fixture()
    async def redis(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as redis:
            yield redis


class TestRealMailboxes(MailboxContract):
    """A Redis server."""

    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as redis:
            yield redis
