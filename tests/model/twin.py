"""One inbox twice: the state machine, and the scripts on a Redis. Random calls must have the same answers and leave the
same state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, cast

import redis

from eai_common.store.client import RedisClient
from eai_common.store.commands import Command, Request
from eai_common.turns import machine
from eai_common.turns.scripts import READ_CLOCK
from eai_common.turns.state import CurrentTurn, Entry, Grant, Inbox, Lease, Message, Mode, Ref, Rules
from eai_common.turns.store import InboxStore

__all__ = ["RULES", "Step", "Twin", "random_steps"]

USER = "+5521999990000"
IDS = tuple("abcdefgh")
OWNERS = ("x", "y", "z")
MODES: tuple[Mode, ...] = ("queue", "merge", "merge", "interrupt", "reject")
START = 1_700_000_000_000
RULES = (
    Rules(),
    Rules(fail_if_uncertain=True, most_lost=1, turn_size=2),
    Rules(most_lost=0, merge_window_ms=1_500, transcript_wait_ms=20_000),
)
_NOW = f"now:{{{USER}}}"
_TEST_CLOCK = f"local now = tonumber(redis.call('GET', '{_NOW}'))\n"


@dataclass(frozen=True)
class Step:
    """One call: its name, and arguments as the state machine takes them. `now` is when."""

    name: str
    now: int
    args: tuple[Any, ...]
    named: Mapping[str, Any]

    def on_machine(self, inbox: Inbox, rules: Rules) -> tuple[Inbox, object]:
        """What the state machine makes of it."""
        named = dict(self.named)
        if self.name not in ("withdraw", "cancel"):
            named["now"] = self.now
        if self.name not in ("withdraw", "cancel", "later"):
            named["rules"] = rules
        result = getattr(machine, self.name)(inbox, *self.args, **named)
        return (result, None) if self.name == "withdraw" else result

    def on_store(self, store: InboxStore) -> Request[object]:
        """The request that does it in Redis."""
        named = dict(self.named)
        if self.name == "later":
            named["delay"] = timedelta(milliseconds=named.pop("delay_ms"))
            give_up_after_ms = named.pop("give_up_after_ms")
            if give_up_after_ms is not None:
                named["give_up_after"] = timedelta(milliseconds=give_up_after_ms)
        return cast("Request[object]", getattr(store, self.name)(USER, *self.args, **named))


def random_steps(random: Random, rules: Rules, count: int) -> list[tuple[Step, Inbox, object]]:
    """So many calls on an empty inbox, one after the other: each with the state after it, and its answer."""
    inbox, now, steps = Inbox(), START, []
    for _ in range(count):
        now += random.choice((0, 0, 0, 1, 300, 2_000, 11_000, 1_000_000))
        step = _random_step(random, inbox, now)
        inbox, answer = step.on_machine(inbox, rules)
        steps.append((step, inbox, answer))
    return steps


def _random_step(random: Random, inbox: Inbox, now: int) -> Step:
    calls: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
        "accept": lambda: ((_message(random, now),), {"is_late": random.random() < 0.2}),
        "withdraw": lambda: ((random.choice(IDS),), {}),
        "cancel": lambda: ((random.choice(IDS),), {}),
        "begin": lambda: (
            (_message(random, now, replay=random.choice((0, 0, 0, 1, 2))), _owner(random, inbox)),
            {"failure": random.choice((None, None, None, b"not heard"))},
        ),
        "ask": lambda: ((_grant(random, inbox), random.randint(1, 3)), {}),
        "later": lambda: ((_grant(random, inbox),), _postponement(random)),
        "record": lambda: ((_grant(random, inbox), _outcomes(random, inbox), _ref(random), _owner(random, inbox)), {}),
        "emitted": lambda: ((_holder(random, inbox), _emitted(random, inbox), _ref(random), _owner(random, inbox)), {}),
        "hand_over": lambda: ((_holder(random, inbox), _emitted(random, inbox), _ref(random)), {}),
        "renew": lambda: ((_grant(random, inbox),), {}),
    }
    weights = (8, 1, 1, 8, 5, 3, 4, 4, 1, 2)
    (name,) = random.choices(tuple(calls), weights)
    args, named = calls[name]()
    return Step(name, now, args, named)


def _message(random: Random, now: int, replay: int = 0) -> Message:
    return Message(
        ref=Ref(random.choice(IDS), replay),
        accepted_at=now - random.choice((0, 0, 5, 2_000)),
        body=random.choice((b"body", b"\x00\xff b\n")),
        group=random.choice(("agent one", "agent one", "agent one", "other", "")),
        mode=random.choice(MODES),
        is_heard=random.random() < 0.8,
    )


def _owner(random: Random, inbox: Inbox) -> str:
    """Mostly a name that nobody has."""
    return random.choice(OWNERS) if random.random() < 0.2 else f"{random.getrandbits(32):x}"


def _holder(random: Random, inbox: Inbox) -> str:
    return inbox.lease.owner if inbox.lease is not None and random.random() < 0.8 else random.choice(OWNERS)


def _grant(random: Random, inbox: Inbox) -> Grant:
    grant = inbox.turn.grant if inbox.turn is not None else Grant("", 0)
    if not grant.owner or random.random() < 0.1:
        return Grant(random.choice(OWNERS), START)
    return replace(grant, since=grant.since - 1) if random.random() < 0.05 else grant


def _ref(random: Random) -> Ref:
    return Ref(random.choice(IDS), random.choice((0, 0, 0, 1, 2)))


def _postponement(random: Random) -> dict[str, Any]:
    return {
        "delay_ms": random.choice((0, 300, 30_000)),
        "is_sure": random.random() < 0.5,
        "attempts": random.randint(0, 3),
        "errors": random.choice((b"", b"[1]")),
        "give_up_after_ms": random.choice((None, 0, 60_000)),
    }


def _outcomes(random: Random, inbox: Inbox) -> dict[Ref, bytes]:
    refs = inbox.turn.refs if inbox.turn is not None and random.random() < 0.9 else (_ref(random),)
    return {ref: random.choice((b"answer", b"\xfe\n", b"")) for ref in refs}


def _emitted(random: Random, inbox: Inbox) -> tuple[Ref, ...]:
    refs = [entry.ref for entry in inbox.entries if entry.outcome is not None]
    return tuple(refs) if refs and random.random() < 0.9 else (_ref(random),)


class Twin:
    """The scripts on a Redis whose time is given."""

    def __init__(self, redis: redis.Redis, rules: Rules) -> None:
        self.redis = redis
        no_connection = cast(Any, None)  # the requests are run here
        self.store = InboxStore(RedisClient(no_connection, no_connection, timedelta(1)), rules, timedelta(hours=24))

    def differences(self, steps: Sequence[tuple[Step, Inbox, object]]) -> str:
        """Do the steps in one round trip; gives in words where Redis first does something else, else nothing."""
        requests = [step.on_store(self.store) for step, _, _ in steps]
        pipeline = self.redis.pipeline(transaction=False)
        for (step, _, _), request in zip(steps, requests, strict=True):
            pipeline.set(_NOW, step.now)
            text, arguments = _with_test_clock(request.commands[0])
            pipeline.eval(text, *arguments)
            pipeline.hgetall(f"inbox:{{{USER}}}")
            pipeline.mget([f"ended:{{{USER}}}:{message_id}" for message_id in IDS])
        replies = pipeline.execute()
        for at, ((step, inbox, answer), request) in enumerate(zip(steps, requests, strict=True)):
            _, reply, fields, ended = replies[4 * at : 4 * at + 4]
            answered, stored = request.decode([reply]), _read(fields, ended)
            if answered != answer or stored != inbox:
                return f"{step}\nanswer {answer}\nRedis  {answered}\nstate {inbox}\nRedis {stored}"
        return ""

    def clear(self) -> None:
        """Forget the inbox."""
        self.redis.delete(f"inbox:{{{USER}}}", *(f"ended:{{{USER}}}:{message_id}" for message_id in IDS))


def _with_test_clock(command: Command) -> tuple[str, tuple[Any, ...]]:
    assert command.script is not None
    text = command.script.text
    assert text.count(READ_CLOCK) == 1
    return text.replace(READ_CLOCK, _TEST_CLOCK), command.arguments


def _read(fields: Mapping[bytes, bytes], ended: Sequence[bytes | None]) -> Inbox:
    """The inbox that Redis holds. Raises KeyError for a field that should not be there, or is missing."""
    left = dict(fields)
    order, last = left.pop(b"order", b"").split(), int(left.pop(b"last", b"0"))
    entries = tuple(_entry(message_id, left) for message_id in order)
    turn = _turn(left.pop(b"turn").split(b" "), left.pop(b"errors", b"")) if b"turn" in left else None
    lease = None
    if b"lease" in left:
        owner, until = left.pop(b"lease").decode().split()
        lease = Lease(owner, int(until))
    if left:
        raise KeyError(f"unknown fields: {sorted(left)}")
    runs = tuple(Ref(message_id, int(run)) for message_id, run in zip(IDS, ended, strict=True) if run is not None)
    return Inbox(entries, turn, lease, runs, last)


def _entry(message_id: bytes, left: dict[bytes, bytes]) -> Entry:
    place, replay, entered, heard, mode, group = left.pop(b"entry:" + message_id).decode().split(" ", 5)
    return Entry(
        place=int(place),
        ref=Ref(message_id.decode(), int(replay)),
        entered_at=int(entered),
        body=left.pop(b"body:" + message_id),
        group=group,
        mode=cast(Mode, mode),
        is_heard=heard == "1",
        outcome=left.pop(b"outcome:" + message_id, None),
    )


def _turn(words: Sequence[bytes], errors: bytes) -> CurrentTurn:
    owner, since, asked, uncertain, interrupted, attempts, lost, not_before, first_asked, *refs = words
    runs = (word.decode().rpartition("/") for word in refs)
    return CurrentTurn(
        refs=tuple(Ref(message_id, int(replay)) for message_id, _, replay in runs),
        grant=Grant("" if owner == b"-" else owner.decode(), int(since)),
        is_asked=asked == b"1",
        is_uncertain=uncertain == b"1",
        is_interrupted=interrupted == b"1",
        attempts=int(attempts),
        lost=int(lost),
        not_before=int(not_before),
        first_asked=int(first_asked),
        errors=errors,
    )
