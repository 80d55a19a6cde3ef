"""The store: one contract, held by the in-process Redis and by a real one."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.exceptions
from fakeredis import FakeServer

from eai_common.messages import Outcome
from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import (
    Acquired,
    Activity,
    ActivityStore,
    Checkpoints,
    Completed,
    FailedAttempt,
    LatencyStore,
    Locked,
    RedisClient,
    StoreUnavailable,
    TaskStore,
    open_memory_redis,
    open_redis,
)
from eai_common.store.errors import map_redis_errors
from eai_common.testing import eventually, pass_time

AT = datetime(2026, 1, 1, 10, 30, 0, 123456, tzinfo=UTC)
LATER = AT + timedelta(seconds=90)
LONG, SHORT = timedelta(minutes=5), timedelta(milliseconds=30)
SETTINGS = TaskSettings.read({"TASK_RESULT_TTL": "120", "TASK_STATUS_TTL": "600", "TASK_PROCESSING_TTL": "24h"})


async def answers(redis: RedisClient) -> bool:
    try:
        await redis.ping()
    except StoreUnavailable:
        return False
    return True


@dataclass
class Outage:
    """Takes the server away and brings it back."""

    go_down: Callable[[], None]
    come_back: Callable[[], None]


class StoreContract:
    """What every store does. A test class gives `redis`, a client of an open Redis, and `outage` of the same."""

    @pytest.fixture()
    def message_id(self) -> str:
        return str(uuid.uuid4())

    @pytest.fixture()
    def user_number(self) -> str:
        return f"+55{uuid.uuid4().int % 10**11:011d}"

    @pytest.fixture()
    def tasks(self, redis: RedisClient) -> TaskStore:
        return TaskStore(redis, SETTINGS)

    @pytest.fixture()
    def checkpoints(self, redis: RedisClient) -> Checkpoints:
        return self.of_stage(redis)

    def of_stage(self, redis: RedisClient, *, stage: str = "router", lease: timedelta = LONG) -> Checkpoints:
        return Checkpoints(
            redis,
            stage=stage,
            lease=lease,
            ttl=timedelta(hours=24),
        )

    async def finish(self, tasks: TaskStore, message_id: str, outcome: Outcome, result: bytes = b"{}") -> Outcome:
        return await tasks.finish(message_id, outcome, result, at=LATER, accepted_at=AT)

    # Status

    async def test_of_a_message_that_never_was_nothing_is_known(self, tasks: TaskStore, message_id: str) -> None:
        view = await tasks.read(message_id)
        assert (view.result, view.status) == (None, None)

    async def test_a_queued_message_is_processing_and_waits_for_its_stage(
        self, tasks: TaskStore, message_id: str
    ) -> None:
        await tasks.note_queued(message_id, stage="transcriber", at=AT)
        status = (await tasks.read(message_id)).status
        assert status is not None
        assert (status.status, status.stage, status.is_terminal) == ("processing", "transcriber", False)
        assert set(status.fields.values()) == {"2026-01-01T10:30:00.123Z"}
        assert status.fields.keys() >= {"created_at", "queued_at"}

    async def test_a_status_that_was_taken_back_is_unknown(self, tasks: TaskStore, message_id: str) -> None:
        await tasks.note_queued(message_id, stage="transcriber", at=AT)
        await tasks.forget(message_id)
        assert (await tasks.read(message_id)).status is None

    async def test_a_message_is_in_the_stage_that_started_last(self, tasks: TaskStore, message_id: str) -> None:
        await tasks.note_queued(message_id, stage="transcriber", at=AT)
        await tasks.note_started(message_id, stage="agent-router", at=LATER, attempt=2)
        status = (await tasks.read(message_id)).status
        assert status is not None
        assert status.stage == "agent-router"
        assert status.fields["agent-router:try:2:started_at"] == "2026-01-01T10:31:30.123Z"
        assert (status.fields["attempts"], status.fields["created_at"]) == ("2", "2026-01-01T10:30:00.123Z")

    async def test_a_failed_try_is_told_with_what_follows(self, tasks: TaskStore, message_id: str) -> None:
        tried = FailedAttempt(2, "AGENT_TIMEOUT", timedelta(seconds=5))
        await tasks.note_error(message_id, stage="agent-router", at=AT, tried=tried)
        status = (await tasks.read(message_id)).status
        assert status is not None
        assert status.fields.items() >= {
            ("last_error", "AGENT_TIMEOUT (next try in 5 s)"),
            ("next_try_at", "2026-01-01T10:30:05.123Z"),
            ("agent-router:try:2:error", "AGENT_TIMEOUT"),
            ("agent-router:try:2:failed_at", "2026-01-01T10:30:00.123Z"),
            ("agent-router:try:2:next_in_ms", "5000"),
        }

    async def test_the_last_try_is_told_even_when_its_note_is_slower_than_the_end(
        self, tasks: TaskStore, redis: RedisClient, message_id: str
    ) -> None:
        await self.finish(tasks, message_id, "failed")
        await tasks.note_error(message_id, stage="agent-router", at=AT, tried=FailedAttempt(6, "AGENT_TIMEOUT", None))
        status = (await tasks.read(message_id)).status
        assert status is not None
        assert (status.status, status.stage) == ("failed", "done")
        assert await redis.driver.ttl(f"task:status:{{{message_id}}}") <= 600
        assert status.fields["last_error"] == "AGENT_TIMEOUT (given up)"

    async def test_however_often_a_message_is_tried_its_status_stays_small(
        self, tasks: TaskStore, redis: RedisClient, message_id: str
    ) -> None:
        for number in range(1, 60):
            await tasks.note_started(message_id, stage="x", at=AT, attempt=number)
            await tasks.note_error(message_id, stage="x", at=AT, tried=FailedAttempt(number, "X", LONG))
        assert await redis.driver.hlen(f"task:status:{{{message_id}}}") < 100

    @pytest.mark.parametrize("outcome", ["completed", "failed"])
    async def test_a_finished_message_has_its_result_and_its_end(
        self, tasks: TaskStore, message_id: str, outcome: Outcome
    ) -> None:
        await tasks.note_queued(message_id, stage="agent-router", at=AT)
        assert await self.finish(tasks, message_id, outcome, '{"content":"Olá"}'.encode()) == outcome
        view = await tasks.read(message_id)
        assert view.status is not None
        assert (view.result, view.status.status, view.status.is_terminal) == (
            '{"content":"Olá"}'.encode(),
            outcome,
            True,
        )
        assert view.status.fields["finished_at"] == "2026-01-01T10:31:30.123Z"

    async def test_a_message_can_finish_that_no_stage_noted(self, tasks: TaskStore, message_id: str) -> None:
        await self.finish(tasks, message_id, "completed")
        status = (await tasks.read(message_id)).status
        assert status is not None
        assert status.fields["created_at"] == "2026-01-01T10:30:00.123Z"

    @pytest.mark.parametrize(("first", "second"), [("completed", "failed"), ("failed", "completed")])
    async def test_the_first_end_holds(
        self, tasks: TaskStore, message_id: str, first: Outcome, second: Outcome
    ) -> None:
        await self.finish(tasks, message_id, first, b'"first"')
        assert await self.finish(tasks, message_id, second, b'"second"') == first
        view = await tasks.read(message_id)
        assert view.status is not None
        assert (view.result, view.status.status) == (b'"first"', first)

    async def test_of_many_ends_at_once_one_holds_and_all_are_told_which(
        self, tasks: TaskStore, message_id: str
    ) -> None:
        outcomes: list[Outcome] = ["completed", "failed"] * 10
        told = await asyncio.gather(*(self.finish(tasks, message_id, one, one.encode()) for one in outcomes))
        view = await tasks.read(message_id)
        assert view.result is not None
        assert set(told) == {view.result.decode()}

    @pytest.mark.parametrize(
        "note",
        [
            lambda tasks, message_id: tasks.note_queued(message_id, stage="x", at=LATER),
            lambda tasks, message_id: tasks.note_started(message_id, stage="x", at=LATER, attempt=9),
        ],
        ids=["queued", "started"],
    )
    async def test_a_late_note_cannot_undo_an_end(
        self, tasks: TaskStore, redis: RedisClient, message_id: str, note: Callable[[TaskStore, str], Awaitable[None]]
    ) -> None:
        await self.finish(tasks, message_id, "completed")
        before = await tasks.read(message_id), await redis.driver.ttl(f"task:status:{{{message_id}}}")
        await note(tasks, message_id)
        assert (await tasks.read(message_id), await redis.driver.ttl(f"task:status:{{{message_id}}}")) == before

    async def test_a_status_of_a_kind_that_is_not_known_counts_as_none(
        self, tasks: TaskStore, redis: RedisClient, message_id: str
    ) -> None:
        await redis.driver.hset(f"task:status:{{{message_id}}}", "status", "paused")
        await redis.driver.expire(f"task:status:{{{message_id}}}", 60)
        assert (await tasks.read(message_id)).status is None

    # Times to live

    async def test_an_unfinished_status_lives_for_a_day_and_a_finished_one_for_ten_minutes(
        self, tasks: TaskStore, redis: RedisClient, message_id: str
    ) -> None:
        key = f"task:status:{{{message_id}}}"
        await tasks.note_queued(message_id, stage="x", at=AT)
        unfinished = await redis.driver.ttl(key)
        await self.finish(tasks, message_id, "completed")
        assert [unfinished, await redis.driver.ttl(key)] == pytest.approx([86_400, 600], abs=5)

    async def test_a_result_lives_for_two_minutes(self, tasks: TaskStore, redis: RedisClient, message_id: str) -> None:
        await self.finish(tasks, message_id, "completed")
        assert await redis.driver.ttl(f"task:{{{message_id}}}") == pytest.approx(120, abs=5)

    async def test_a_result_expires_before_its_status(self, redis: RedisClient, message_id: str) -> None:
        tasks = TaskStore(redis, TaskSettings.read({"TASK_RESULT_TTL": "30ms", "TASK_STATUS_TTL": "600"}))
        await self.finish(tasks, message_id, "completed")

        async def is_expired() -> bool:
            view = await tasks.read(message_id)
            return view.result is None and view.status is not None and view.status.is_terminal

        await eventually(is_expired)

    async def test_every_key_has_a_time_to_live(
        self, tasks: TaskStore, redis: RedisClient, message_id: str, user_number: str
    ) -> None:
        checkpoints = self.of_stage(redis)
        activity, latency = ActivityStore(redis, LONG), LatencyStore(redis)
        await tasks.note_started(message_id, stage="x", at=AT, attempt=1)
        await tasks.note_error(message_id, stage="x", at=AT, tried=FailedAttempt(1, "X", None))
        await checkpoints.claim(message_id, "one")
        await self.of_stage(redis, stage="formatter").record(message_id, b"")
        await activity.note(user_number, at=AT)
        await latency.note("text", timedelta(seconds=1))
        await self.finish(tasks, message_id, "completed")
        keys = await redis.driver.keys("*")
        assert len([key for key in keys if message_id.encode() in key]) == 4
        assert len([key for key in keys if user_number.encode() in key]) == 1
        assert [key for key in keys if await redis.driver.ttl(key) < 0] == []

    # Checkpoints

    async def test_the_first_to_claim_a_message_gets_it(self, checkpoints: Checkpoints, message_id: str) -> None:
        assert await checkpoints.claim(message_id, "one") == Acquired()

    async def test_a_message_in_work_is_held_elsewhere_for_as_long_as_its_lease(
        self, redis: RedisClient, checkpoints: Checkpoints, message_id: str
    ) -> None:
        await checkpoints.claim(message_id, "one")
        claim = await self.of_stage(redis).claim(message_id, "two")
        assert isinstance(claim, Locked)
        assert timedelta(minutes=4) < claim.remaining <= LONG

    async def test_of_many_that_claim_at_once_one_gets_it(self, redis: RedisClient, message_id: str) -> None:
        replicas = [self.of_stage(redis) for _ in range(10)]
        claims = await asyncio.gather(*(one.claim(message_id, str(i)) for i, one in enumerate(replicas)))
        assert [type(claim) for claim in claims].count(Acquired) == 1

    async def test_an_owner_that_asks_again_still_owns(self, checkpoints: Checkpoints, message_id: str) -> None:
        # As the client does by itself when the answer to the first time was lost.
        await checkpoints.claim(message_id, "one")
        assert await checkpoints.claim(message_id, "one") == Acquired()

    async def test_stages_and_messages_do_not_hold_each_other_up(
        self, redis: RedisClient, checkpoints: Checkpoints, message_id: str
    ) -> None:
        await checkpoints.claim(message_id, "one")
        claims = [
            await self.of_stage(redis, stage="formatter").claim(message_id, "two"),
            await checkpoints.claim(str(uuid.uuid4()), "two"),
        ]
        assert claims == [Acquired(), Acquired()]

    async def test_a_lease_that_ran_out_can_be_claimed(self, redis: RedisClient, message_id: str) -> None:
        await self.of_stage(redis, lease=SHORT).claim(message_id, "dead")
        other = self.of_stage(redis)

        async def is_taken_up() -> bool:
            return await other.claim(message_id, "two") == Acquired()

        await eventually(is_taken_up)

    async def test_a_released_message_can_be_claimed_at_once(
        self, checkpoints: Checkpoints, redis: RedisClient, message_id: str
    ) -> None:
        await checkpoints.claim(message_id, "one")
        await checkpoints.release(message_id, "one")
        assert await self.of_stage(redis).claim(message_id, "two") == Acquired()

    async def test_nobody_releases_the_lease_of_another(
        self, checkpoints: Checkpoints, redis: RedisClient, message_id: str
    ) -> None:
        await checkpoints.claim(message_id, "one")
        await self.of_stage(redis).release(message_id, "two")
        assert isinstance(await self.of_stage(redis).claim(message_id, "two"), Locked)

    @pytest.mark.parametrize("outcome", [b"", b"agent.replied\n{}", b"done:x", bytes(range(256))], ids=repr)
    async def test_work_that_was_recorded_is_given_to_who_claims_it_next(
        self, checkpoints: Checkpoints, redis: RedisClient, message_id: str, outcome: bytes
    ) -> None:
        await checkpoints.claim(message_id, "one")
        await checkpoints.record(message_id, outcome)
        assert await self.of_stage(redis).claim(message_id, "two") == Completed(outcome)

    async def test_a_record_holds_although_the_lease_ran_out_before(self, redis: RedisClient, message_id: str) -> None:
        slow = self.of_stage(redis, lease=SHORT)
        await slow.claim(message_id, "slow")
        other = self.of_stage(redis)

        async def is_taken_up() -> bool:
            return await other.claim(message_id, "other") == Acquired()

        await eventually(is_taken_up)
        await slow.record(message_id, b"reply")
        assert await other.claim(message_id, "third") == Completed(b"reply")

    async def test_a_record_outlives_the_release_of_a_late_owner(
        self, checkpoints: Checkpoints, redis: RedisClient, message_id: str
    ) -> None:
        await checkpoints.claim(message_id, "one")
        await checkpoints.record(message_id, b"reply")
        await checkpoints.release(message_id, "one")
        assert await self.of_stage(redis).claim(message_id, "two") == Completed(b"reply")

    async def test_a_record_lives_for_a_day(
        self, checkpoints: Checkpoints, redis: RedisClient, message_id: str
    ) -> None:
        await checkpoints.record(message_id, b"")
        assert await redis.driver.ttl(f"checkpoint:{{{message_id}}}:router") == pytest.approx(86_400, abs=5)

    # Renewal

    async def nearly_over(self, redis: RedisClient, message_id: str) -> Checkpoints:
        """Checkpoints that hold one lease, about to end."""
        checkpoints = self.of_stage(redis)
        await checkpoints.claim(message_id, "one")
        await redis.driver.expire(f"checkpoint:{{{message_id}}}:router", 30)
        return checkpoints

    async def lease_s(self, redis: RedisClient, message_id: str) -> int:
        return int(await redis.driver.ttl(f"checkpoint:{{{message_id}}}:router"))

    async def test_a_lease_that_is_held_is_renewed(self, redis: RedisClient, message_id: str) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) == pytest.approx(300, abs=5)

    async def test_what_was_released_or_recorded_is_not_renewed(self, redis: RedisClient, message_id: str) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        await checkpoints.release(message_id, "one")
        await self.of_stage(redis, lease=timedelta(seconds=30)).claim(message_id, "two")
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) <= 30

    async def test_the_lease_of_another_is_not_renewed(self, redis: RedisClient, message_id: str) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        await redis.driver.set(f"checkpoint:{{{message_id}}}:router", b"lease:other", ex=30)
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) <= 30

    async def test_renewal_goes_on_after_the_server_forgot_its_scripts(
        self, redis: RedisClient, message_id: str
    ) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        await redis.driver.script_flush()
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) == pytest.approx(300, abs=5)

    async def test_an_error_inside_of_renewing_ends_it_and_comes_out(self, redis: RedisClient) -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with self.of_stage(redis).renewing():
                raise ValueError("from inside")
        assert raised.group_contains(ValueError, match="from inside")

    # Users

    async def test_a_users_last_message_is_known_for_a_while(self, redis: RedisClient, user_number: str) -> None:
        activity = ActivityStore(redis, timedelta(hours=1))
        assert await activity.read(user_number) is None
        await activity.note(user_number, at=AT)
        await activity.note(user_number, at=LATER)
        found = await activity.read(user_number)
        assert isinstance(found, Activity)
        assert found.at == LATER.replace(microsecond=123_000)
        assert timedelta(minutes=59) < found.kept_for <= timedelta(hours=1)

    # Latency

    async def test_recent_times_come_newest_first_and_a_hundred_at_most(self, redis: RedisClient) -> None:
        latency = LatencyStore(redis)
        for milliseconds in range(110):
            await latency.note("audio", timedelta(milliseconds=milliseconds))
        recent = await latency.recent("audio")
        assert recent == [timedelta(milliseconds=one) for one in range(109, 9, -1)]

    async def test_of_recent_times_it_is_known_when_the_message_was_done(self, redis: RedisClient) -> None:
        latency = LatencyStore(redis)
        await redis.driver.lpush("latency:audio", 1500)  # as the release before wrote it
        await latency.note("audio", timedelta(seconds=2))
        newest, oldest, *_ = await latency.completions("audio")
        assert (newest.took, oldest.took, oldest.at) == (timedelta(seconds=2), timedelta(seconds=1.5), None)
        assert newest.at is not None
        assert abs(newest.at - datetime.now(UTC)) < timedelta(minutes=1)

    # Outages

    async def everything(self, redis: RedisClient, message_id: str) -> list[Callable[[], Awaitable[Any]]]:
        tasks, checkpoints = TaskStore(redis, SETTINGS), self.of_stage(redis)
        return [
            lambda: tasks.note_queued(message_id, stage="x", at=AT),
            lambda: tasks.note_started(message_id, stage="x", at=AT, attempt=1),
            lambda: tasks.note_error(message_id, stage="x", at=AT, tried=FailedAttempt(1, "X", None)),
            lambda: self.finish(tasks, message_id, "completed"),
            lambda: tasks.read(message_id),
            lambda: checkpoints.claim(message_id, "one"),
            lambda: checkpoints.record(message_id, b""),
            lambda: checkpoints.release(message_id, "one"),
            lambda: ActivityStore(redis, LONG).note("+5521999990000", at=AT),
            lambda: ActivityStore(redis, LONG).read("+5521999990000"),
            lambda: LatencyStore(redis).note("text", LONG),
            lambda: LatencyStore(redis).recent("text"),
        ]

    async def test_while_the_server_is_gone_everything_is_unavailable_and_afterwards_works_again(
        self, redis: RedisClient, outage: Outage, message_id: str
    ) -> None:
        effects = await self.everything(redis, message_id)
        await asyncio.gather(*(effect() for effect in effects))  # so that connections exist that can break
        outage.go_down()
        try:
            outcomes = await asyncio.gather(*(effect() for effect in effects), return_exceptions=True)
        finally:
            outage.come_back()
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        await eventually(lambda: answers(redis))
        await asyncio.gather(*(effect() for effect in effects))

    async def test_renewal_goes_on_after_an_outage(self, redis: RedisClient, outage: Outage, message_id: str) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        outage.go_down()
        try:
            with pytest.raises(StoreUnavailable):
                await checkpoints.renew()
        finally:
            outage.come_back()
        await redis.driver.set(f"checkpoint:{{{message_id}}}:router", b"lease:one", ex=30)
        await eventually(lambda: answers(redis))
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) == pytest.approx(300, abs=5)

    async def test_a_lease_whose_record_was_lost_in_an_outage_is_not_renewed_for_ever(
        self, redis: RedisClient, outage: Outage, message_id: str
    ) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        outage.go_down()
        try:
            with pytest.raises(StoreUnavailable):
                await checkpoints.record(message_id, b"reply")
        finally:
            outage.come_back()
        await redis.driver.set(
            f"checkpoint:{{{message_id}}}:router", b"lease:one", ex=30
        )  # as an unreachable server keeps it
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) <= 30

    async def test_a_late_release_does_not_end_the_renewal_of_the_next_owner(
        self, redis: RedisClient, message_id: str
    ) -> None:
        checkpoints = await self.nearly_over(redis, message_id)
        await redis.driver.delete(f"checkpoint:{{{message_id}}}:router")  # its lease ran out
        await checkpoints.claim(message_id, "two")
        await checkpoints.release(message_id, "one")
        await redis.driver.expire(f"checkpoint:{{{message_id}}}:router", 30)
        await checkpoints.renew()
        assert await self.lease_s(redis, message_id) == pytest.approx(300, abs=5)


class TestMemoryStore(StoreContract):
    """The Redis inside of the process."""

    @pytest.mark.virtual_time()
    async def test_a_lease_is_renewed_three_times_in_its_life(self, redis: RedisClient, message_id: str) -> None:
        checkpoints = self.of_stage(redis)
        async with checkpoints.renewing():
            await checkpoints.claim(message_id, "one")
            for _ in range(3):
                await redis.driver.expire(f"checkpoint:{{{message_id}}}:router", LONG / 2)
                await pass_time(LONG / 3)
                assert await self.lease_s(redis, message_id) == pytest.approx(300, abs=5)

    @pytest.fixture()
    async def redis(self, server: FakeServer) -> AsyncIterator[RedisClient]:
        async with open_memory_redis(server) as redis:
            yield redis

    @pytest.fixture()
    def server(self) -> FakeServer:
        return FakeServer()

    @pytest.fixture()
    def outage(self, server: FakeServer) -> Outage:
        def connect(is_connected: bool) -> None:
            server.connected = is_connected

        return Outage(lambda: connect(False), lambda: connect(True))

    async def test_two_of_them_share_nothing(self, redis: RedisClient) -> None:
        await redis.driver.set("key", "value", ex=60)
        async with open_memory_redis() as other:
            assert await other.driver.get("key") is None


class TestRealStore(StoreContract):
    """A Redis server."""

    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        settings = RedisSettings.read({"REDIS_URL": redis_server.url})
        async with open_redis(settings) as redis:
            await redis.ping()
            yield redis

    @pytest.fixture()
    def outage(self, own_redis: Any) -> Outage:
        return Outage(own_redis.kill, own_redis.start)


# The client


@pytest.fixture()
def silent_server() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_client_opens_although_there_is_no_server() -> None:
    async with open_redis(RedisSettings.read({"REDIS_URL": "redis://127.0.0.1:1/0"})) as redis:
        with pytest.raises(StoreUnavailable, match="Redis: ConnectionError"):
            await ActivityStore(redis, LONG).read("+5521999990000")


async def test_a_server_that_does_not_answer_in_time_is_unavailable(silent_server: str) -> None:
    settings = RedisSettings.read({"REDIS_URL": silent_server, "REDIS_TIMEOUT": "50ms"})
    async with open_redis(settings) as redis:
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(5):
                await ActivityStore(redis, LONG).read("+5521999990000")


async def test_more_requests_than_connections_wait_for_their_turn(redis_server: Any) -> None:
    settings = RedisSettings.read({"REDIS_URL": redis_server.url, "REDIS_POOL_SIZE": "2"})
    async with open_redis(settings) as redis:
        latency = LatencyStore(redis)
        await asyncio.gather(*(latency.recent("text") for _ in range(100)))


async def test_the_password_may_stand_beside_the_address(own_redis: Any) -> None:
    settings = {"REDIS_URL": own_redis.url}
    async with open_redis(RedisSettings.read(settings)) as admin:
        await admin.driver.config_set("requirepass", "hunter2")
        try:
            async with open_redis(RedisSettings.read({**settings, "REDIS_PASSWORD": "hunter2"})) as redis:
                await redis.ping()
            async with open_redis(RedisSettings.read({**settings, "REDIS_PASSWORD": "wrong"})) as redis:
                with pytest.raises(StoreUnavailable) as refused:
                    await LatencyStore(redis).recent("text")
            assert "wrong" not in str(refused.value)
        finally:
            await admin.driver.config_set("requirepass", "")


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("refused"),
        redis.exceptions.TimeoutError("slow"),
        redis.exceptions.BusyLoadingError("loading"),
        redis.exceptions.OutOfMemoryError("full"),
        redis.exceptions.ReadOnlyError("a replica"),
        redis.exceptions.ClusterDownError("down"),
        OSError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_by_itself_is_unavailable_with_its_cause(error: Exception) -> None:
    with pytest.raises(StoreUnavailable) as raised, map_redis_errors():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [redis.exceptions.ResponseError("WRONGTYPE"), KeyError("x")], ids=repr)
def test_a_mistake_of_ours_goes_through(error: Exception) -> None:
    with pytest.raises(type(error)), map_redis_errors():
        raise error
