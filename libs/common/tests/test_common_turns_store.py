"""Inboxes in Redis: what a worker does with a message, calls that share a round trip, and a Redis that is full.

That the scripts do what the state machine does is for tests/model.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.crc import key_slot

from eai_common.settings import RedisSettings
from eai_common.store import RedisClient, StoreUnavailable, command, open_memory_redis, open_redis, together_all
from eai_common.store.commands import Command, Script
from eai_common.turns import InboxStore, machine, scripts, unix_ms
from eai_common.turns.state import (
    Accepted,
    Changed,
    Done,
    Emit,
    Ended,
    Fail,
    Grant,
    HandOver,
    Held,
    Lost,
    Message,
    Mode,
    Overdue,
    Postponed,
    Question,
    Ref,
    Rejected,
    Rules,
    Turn,
    Wait,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def a_message(name: str = "a", *, mode: Mode = "queue") -> Message:
    return Message(Ref(name), unix_ms(NOW), b"\x00body of " + name.encode(), "question letta", mode)


def a_user() -> str:
    return f"+55{uuid.uuid4().int % 10**11:011d}"


class StoreContract:
    """Inherit it, and give it a `redis`."""

    @pytest.fixture()
    def store(self, redis: RedisClient) -> InboxStore:
        return InboxStore(redis, Rules(), timedelta(hours=24))

    async def test_a_message_is_accepted_asked_recorded_and_emitted(self, store: InboxStore) -> None:
        user, message = a_user(), a_message()
        assert await store.accept(user, message) == Accepted()
        turn = await store.begin(user, message, "one")
        assert isinstance(turn, Turn)
        assert turn == Turn(Grant("one", turn.grant.since), (Question(message.ref, message.body),), 0, 0, False, b"")
        assert await store.ask(user, turn.grant, 1) == Held()
        step = await store.record(user, turn.grant, {message.ref: b"\xffanswer"}, message.ref, "two")
        assert isinstance(step, Emit)
        assert [(one.ref, one.outcome, one.body) for one in step.emissions] == [
            (message.ref, b"\xffanswer", message.body)
        ]
        assert await store.emitted(user, "two", [message.ref], message.ref, "three") == Done()
        assert await store.begin(user, message, "four") == Done()
        assert await store.accept(user, message) == Ended()

    async def test_a_turn_that_is_put_off_waits_and_keeps_what_is_known_of_it(self, store: InboxStore) -> None:
        user, message = a_user(), a_message()
        turn = await store.begin(user, message, "one")
        assert isinstance(turn, Turn)
        await store.ask(user, turn.grant, 1)
        put_off = await store.later(user, turn.grant, delay=60 * SECOND, is_sure=False, attempts=1, errors=b"[{}]")
        assert put_off == Postponed()
        step = await store.begin(user, message, "two")
        assert isinstance(step, Wait)
        assert 59_000 < step.delay_ms <= 60_000
        assert await store.ask(user, turn.grant, 2) == Lost()

    async def test_a_turn_that_was_tried_for_long_enough_is_overdue(self, store: InboxStore) -> None:
        user = a_user()
        await store.accept(user, a_message("b"))
        turn = await store.begin(user, a_message("b"), "one")
        await store.accept(user, a_message("c"))
        assert isinstance(turn, Turn)
        await store.ask(user, turn.grant, 1)
        put_off = store.later(
            user, turn.grant, delay=SECOND, is_sure=True, attempts=1, errors=b"", give_up_after=timedelta()
        )
        assert await put_off == Overdue()
        assert isinstance(await store.record(user, turn.grant, {Ref("b"): b"no"}, Ref("b"), "two"), Emit)

    async def test_a_cancelled_message_leaves_its_turn(self, store: InboxStore) -> None:
        user, first, second = a_user(), a_message("a", mode="merge"), a_message("b", mode="merge")
        await together_all([store.accept(user, first), store.accept(user, second)])
        turn = await store.begin(user, first, "one")
        assert isinstance(turn, Turn)
        assert [question.ref for question in turn.questions] == [first.ref, second.ref]
        await store.ask(user, turn.grant, 1)
        await store.cancel(user, "b")
        assert await store.renew(user, turn.grant) == Held(is_interrupted=True)
        outcomes = {first.ref: b"merged", second.ref: b"answer"}
        assert await store.record(user, turn.grant, outcomes, first.ref, "two") == Changed((first.ref,))

    async def test_one_that_wants_to_be_alone_is_rejected(self, store: InboxStore) -> None:
        user = a_user()
        await store.accept(user, a_message("a"))
        assert await store.accept(user, a_message("b", mode="reject")) == Rejected("a")

    async def test_a_failed_transcription_is_an_outcome(self, store: InboxStore) -> None:
        user, message = a_user(), a_message()
        step = await store.begin(user, message, "one", failure=b"not understood")
        assert isinstance(step, Emit)
        assert step.emissions[0].outcome == b"not understood"

    async def test_who_goes_learns_what_one_more_delivery_would_carry(self, store: InboxStore) -> None:
        user, first, second = a_user(), a_message("a"), a_message("b")
        await together_all([store.accept(user, first), store.accept(user, second)])
        turn = await store.begin(user, first, "one")
        assert isinstance(turn, Turn)
        await store.record(user, turn.grant, {first.ref: b"answer"}, first.ref, "two")
        assert await store.hand_over(user, "two", [first.ref], first.ref) == HandOver(second.body, is_ended=True)
        assert isinstance(await store.begin(user, second, "three"), Turn)

    async def test_a_withdrawn_message_is_gone(self, store: InboxStore) -> None:
        user = a_user()
        await store.accept(user, a_message("a"))
        await store.withdraw(user, "a")
        assert await store.accept(user, a_message("b", mode="reject")) == Accepted()

    async def test_leases_of_many_users_are_renewed_in_one_round_trip(self, store: InboxStore) -> None:
        users = [a_user() for _ in range(5)]
        turns = await together_all([store.begin(user, a_message(), f"owner of {user}"[-12:]) for user in users])
        grants = [turn.grant for turn in turns if isinstance(turn, Turn)]
        renewed = await together_all([store.renew(user, grant) for user, grant in zip(users, grants, strict=True)])
        assert renewed == [Held()] * 5

    async def test_what_kills_its_workers_is_given_up(self, redis: RedisClient) -> None:
        store = InboxStore(redis, Rules(most_lost=0, lease_ms=0), timedelta(hours=24))
        user, message = a_user(), a_message()
        turn = await store.begin(user, message, "one")
        assert isinstance(turn, Turn)
        await store.ask(user, turn.grant, 1)
        step = await store.begin(user, message, "two")
        assert isinstance(step, Fail)
        assert step.code == "POISON_MESSAGE"


class TestInProcess(StoreContract):
    @pytest.fixture()
    async def redis(self) -> AsyncIterator[RedisClient]:
        async with open_memory_redis() as client:
            yield client


class TestReal(StoreContract):
    @pytest.fixture()
    async def redis(self, redis_server: Any) -> AsyncIterator[RedisClient]:
        async with open_redis(RedisSettings.read({"REDIS_URL": redis_server.url})) as client:
            yield client

    async def test_a_full_redis_takes_no_new_message_and_drains(self, store: InboxStore, own_redis: Any) -> None:
        user, message = a_user(), a_message()
        redis = store._redis
        await store.accept(user, message)
        await redis.request(command("CONFIG", "SET", "maxmemory-policy", "noeviction"))
        await redis.request(command("CONFIG", "SET", "maxmemory", "1"))
        try:
            with pytest.raises(StoreUnavailable):
                await store.accept(user, a_message("b"))
            turn = await store.begin(user, message, "one")
            assert isinstance(turn, Turn)
            assert await store.ask(user, turn.grant, 1) == Held()
            step = await store.record(user, turn.grant, {message.ref: b"answer" * 1_000}, message.ref, "two")
            assert isinstance(step, Emit)
            assert await store.emitted(user, "two", [message.ref], message.ref, "three") == Done()
        finally:
            await redis.request(command("CONFIG", "SET", "maxmemory", "0"))


def test_all_keys_of_a_call_are_in_one_slot() -> None:
    calls: list[Command] = []

    class Redis:
        def request(self, call: Command, **_: object) -> None:
            calls.append(call)

    store = InboxStore(Redis(), Rules(), timedelta(hours=1))  # type: ignore[arg-type]
    store.begin("+5521", a_message(), "one")
    store.record("+5521", Grant("one", 1), {Ref("a"): b""}, Ref("b"), "two")
    store.emitted("+5521", "two", [Ref("a"), Ref("b")], Ref("c"), "three")
    keys = [[str(key).encode() for key in call.arguments[1 : 1 + int(call.arguments[0])]] for call in calls]
    assert [len(of_call) for of_call in keys] == [2, 2, 4]
    assert [len({key_slot(key) for key in of_call}) for of_call in keys] == [1, 1, 1]


def test_scripts_name_their_functions_as_the_state_machine_does() -> None:
    known = {name.lstrip("_") for name in vars(machine)}
    texts = "\n".join(script.text for script in vars(scripts).values() if isinstance(script, Script))
    shared = {"together", "wants_to_join", "interrupt", "enter", "leave", "hand_out", "emissions", "quiet_at", "wait"}
    assert shared <= set(re.findall(r"local function (\w+)", texts)) & known
