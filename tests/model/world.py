"""Everything around one user's inbox, as a model: ingress, RabbitMQ, transcriber, workers, faults; and what must hold.

One user, a few messages. The queue and the delay ladder may give any delivery at any time, time passes when it likes,
and a bounded number of faults happens anywhere. The inbox is the real state machine (`inboxes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from model.inboxes import AT_ONCE, FRESH, OVERDUE, QUIET, Called, Inboxes, Machine, Run

from eai_common.turns.state import CANCELLED, CurrentTurn, Message, Mode, Ref

__all__ = ["Scope", "State", "Violation", "World"]

NEW, ENTERED, AWAY, ACCEPTED, GONE, REFUSED, UNSURE, REENTERED, REJECTED = range(9)  # where ingress is with a message
BEGUN, ASKING, ANSWERED, FAILED, EMITTING, EMITTED = range(6)  # phases of a worker
TEXT, AUDIO, NO_TRANSCRIPT = range(3)  # kinds of deliveries: for the router, for the transcriber, its failure
ENDLESS = 10**9

_FAILURES = frozenset({"refused", "TRANSCRIPTION_ERROR", "POISON_MESSAGE", "AGENT_OUTCOME_UNKNOWN"})

Delivery = tuple[int, int, int]
"""Message, kind, number of the replay."""


class Violation(Exception):
    """Something that must never be."""


@dataclass(frozen=True)
class Scope:
    """What is searched: the messages, and how many of what may go wrong."""

    name: str
    types: str  # one letter for each message: t text, a audio, h history update
    modes: str = ""  # of each: q queue, m merge, i interrupt, r reject; empty: all queue
    fail_if_uncertain: bool = False
    tasks: int = 2
    faults: int = 1
    errors: int = 1  # errors and timeouts of the provider, and guards that stop the turn, all together
    refusals: int = 0  # errors for good
    replays: int = 0
    cancels: int = 0
    most_attempts: int = 2
    most_lost: int = 1
    is_quiet: bool = False  # first messages wait for a quiet user
    gives_up: bool = False  # a turn that others wait for may be given up at an error
    clocks: tuple[int, ...] = ()  # times of acceptance by the clocks of ingress, if not in order
    kinds: frozenset[str] = field(default_factory=frozenset)  # of faults; empty: all


class Task(NamedTuple):
    """A worker with a delivery. `tag` bit 1: its grant is of the present hand-out of the turn; bit 2: of the past state
    that a failover would bring back."""

    delivery: Delivery
    is_held: int  # the broker still knows it as unacked
    owner: int
    tag: int
    phase: int
    refs: tuple[Run, ...]
    data: tuple[Any, ...]
    is_zombie: int  # its lease lapsed, or was lost
    has_asked: int
    attempts: int


class Slot(NamedTuple):
    """What happened to one run of a message."""

    recorded: bytes = b"-"
    emitted: bytes = b"-"
    open: int = 0  # asks for which nothing gave a reason to ask again
    unknown: int = 0  # asks of which it is not certain that nothing came
    asks: int = 0
    deaths: int = 0  # of workers that had asked
    number: int = 0  # of its outcome


class Past(NamedTuple):
    """An earlier state of the inbox, and what its owners are called now."""

    inbox: int
    lease_owner: int
    turn_owner: int


class History(NamedTuple):
    """What only the checker knows."""

    ingress: tuple[int, ...]
    slots: tuple[Slot, ...]
    entered: int  # masks of messages
    purged: int
    published: int  # mask of runs
    faults: int
    errors: int
    refusals: int
    replays: int
    cancels: int
    is_spoiled: int = 0
    past: Past | None = None


class State(NamedTuple):
    """`late`: one call that is still on its way though its caller gave it up."""

    inbox: int
    queue: tuple[Delivery, ...]
    tasks: tuple[Task, ...]
    late: Late | None
    history: History


Move = tuple[str, int, State | Violation]
"""What happens, what it costs in faults, and what comes of it."""

_MODES: dict[str, Mode] = {"q": "queue", "m": "merge", "i": "interrupt", "r": "reject"}


def label(kind: str, refs: Iterable[Run], number: int, into: int = -1) -> bytes:
    """An outcome: its kind, the messages of the turn that has it, the number of the ask, whom it is merged into.

    `into` -1: it is not; -2: nor is it of a turn, but the transcriber's.
    """
    mask = 0
    for i, _ in refs:
        mask |= 1 << i
    return f"{kind} {mask} {number} {into}".encode()


@cache
def parsed(outcome: bytes) -> tuple[str, int, int, int]:
    """What `label` wrote."""
    if outcome == CANCELLED:
        return "cancelled", 0, 0, -1
    kind, mask, number, into = outcome.decode().split()
    return kind, int(mask), int(number), int(into)


def outcomes(kind: str, refs: tuple[Run, ...], turn: tuple[Run, ...], number: int) -> tuple[bytes, ...]:
    """The outcomes of a turn that was asked as `turn`, of which `refs` are left: the last has the answer."""
    last = refs[-1][0]
    return (*(label("merged", turn, number, last) for _ in refs[:-1]), label(kind, turn, number))


class World:
    """All that can happen next in a state of a scope."""

    def __init__(self, scope: Scope, machine: Machine) -> None:
        self.scope = scope
        self.count = len(scope.types)
        self.runs = 1 + scope.replays
        modes = scope.modes or "q" * self.count
        times = scope.clocks or tuple(range(1, self.count + 1))
        messages = [
            Message(Ref(f"{i}"), times[i], b"%d" % i, "" if kind == "h" else "agent", _MODES[modes[i]], kind != "a")
            for i, kind in enumerate(scope.types)
        ]
        self.inboxes = Inboxes(
            machine,
            messages,
            fail_if_uncertain=scope.fail_if_uncertain,
            most_lost=scope.most_lost,
            is_quiet=scope.is_quiet,
        )

    def initial(self) -> State:
        """Before anything happened."""
        s = self.scope
        slots = (Slot(),) * (self.count * self.runs)
        history = History((NEW,) * self.count, slots, 0, 0, 0, s.faults, s.errors, s.refusals, s.replays, s.cancels)
        return State(self.inboxes.empty, (), (), None, history)

    def is_goal(self, state: State) -> bool:
        """Whether nothing is left to do, and every promise was kept."""
        if state.queue or state.tasks:
            return False
        final = all(phase in (ACCEPTED, GONE, REFUSED, REJECTED) for phase in state.history.ingress)
        return final and not any(True for _ in self._owed(state.history))

    def moves(self, state: State) -> list[Move]:
        """All that can happen next."""
        return _Moves(self, state).all()

    def slot(self, i: int, replay: int) -> int:
        """The number of a run of a message."""
        return i * self.runs + replay

    def _owed(self, history: History) -> Iterator[Run]:
        """The runs that were promised, and have not been emitted."""
        for k, slot in enumerate(history.slots):
            i, replay = divmod(k, self.runs)
            promised = history.published >> k & 1 if replay else history.ingress[i] == ACCEPTED
            if promised and slot.emitted == b"-" and not history.purged >> i & 1:
                yield i, replay

    def check(self, state: State) -> None:
        """Raises Violation if a promised message has no permit left."""
        for i, replay in self._owed(state.history):
            in_queue = any(d[0] == i and d[2] >= replay for d in state.queue)
            if not in_queue and not any(task.is_held and task.delivery[0] == i for task in state.tasks):
                raise Violation(f"message {i} (replay {replay}) is lost: not emitted, and no delivery of it is left")


# ---- what the checker notes ----------------------------------------------------------------------


class _Book:
    """History, and what may not happen in it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def asked(self, history: History, refs: tuple[Run, ...], others: Iterable[Task], *, is_uncertain: bool) -> History:
        """The provider is asked; `is_uncertain` is what it is told. Raises Violation."""
        slots = list(history.slots)
        if not history.is_spoiled and any(task.phase == ASKING and not task.is_zombie for task in others):
            raise Violation("two turns of the user at once")
        for i, replay in refs:
            k = self.world.slot(i, replay)
            slot = slots[k]
            if not history.is_spoiled:
                if slot.recorded != b"-" or slot.emitted != b"-":
                    raise Violation(f"message {i} asked again after its outcome was recorded")
                for j in () if replay else self.before(history, i):
                    is_ended = history.slots[self.world.slot(j, 0)].recorded != b"-"
                    if not is_ended and (j, 0) not in refs:
                        raise Violation(f"message {i} asked before message {j}")
                if slot.open:
                    raise Violation(f"message {i} asked again without a reason")
                is_question = self.world.scope.types[i] != "h"
                if slot.unknown and self.world.scope.fail_if_uncertain and is_question:
                    raise Violation(f"message {i} asked again though uncertain")
                if slot.unknown and is_question and not is_uncertain:
                    raise Violation(f"message {i} asked again as if for the first time")
            slots[k] = slot._replace(open=slot.open + 1, unknown=slot.unknown + 1, asks=slot.asks + 1)
        return history._replace(slots=tuple(slots))

    def closed(self, history: History, task: Task, *, is_sure: bool = False, is_death: bool = False) -> History:
        """The task's ask has no effect any more, or nobody waits for it: another one has a reason."""
        if not task.has_asked:
            return history
        slots = list(history.slots)
        for run in task.refs:
            k = self.world.slot(*run)
            slot = slots[k]
            still_open, deaths = max(0, slot.open - (not task.is_zombie)), slot.deaths
            if is_death and not task.is_zombie:
                deaths += 1
            slots[k] = slot._replace(open=still_open, unknown=max(0, slot.unknown - is_sure), deaths=deaths)
        return history._replace(slots=tuple(slots))

    def reopened(self, history: History, task: Task) -> History:
        """The task has its place again."""
        if not task.is_zombie or not task.has_asked:
            return history
        slots = list(history.slots)
        for run in task.refs:
            k = self.world.slot(*run)
            slots[k] = slots[k]._replace(open=slots[k].open + 1)
        return history._replace(slots=tuple(slots))

    def recorded(self, history: History, kept: tuple[tuple[int, int, bytes], ...]) -> History:
        """These outcomes were written down. Raises Violation."""
        if not kept:
            return history
        slots = list(history.slots)
        ends = {i: parsed(outcome) for i, _, outcome in kept}
        for i, replay, outcome in kept:
            kind, mask, number, into = parsed(outcome)
            if kind == "merged" and (
                into not in ends or ends[into][1:3] != (mask, number) or ends[into][0] == "merged"
            ):
                raise Violation(f"message {i} merged into one whose outcome is of another turn")
            if kind != "cancelled" and not mask >> i & 1:
                raise Violation(f"message {i} has an outcome of a turn that it was no part of: {outcome!r}")
            if kind == "AGENT_OUTCOME_UNKNOWN" and self.world.scope.types[i] == "h":
                raise Violation(f"message {i} failed as uncertain, though to repeat it does no harm")
            if kind == "POISON_MESSAGE" and number <= self.world.scope.most_lost and not history.is_spoiled:
                raise Violation(f"message {i} given up as poison after {number} asks")
            if kind in ("POISON_MESSAGE", "AGENT_OUTCOME_UNKNOWN") and not history.is_spoiled:
                for j in range(self.world.count):
                    runs = (slots[self.world.slot(j, x)] for x in range(self.world.runs))
                    if mask >> j & 1 and not any(slot.asks for slot in runs):
                        raise Violation(f"message {j} failed for an ask that it had no part in")
            k = self.world.slot(i, replay)
            if slots[k].recorded == b"-":
                slots[k] = slots[k]._replace(recorded=outcome)
        return history._replace(slots=tuple(slots))

    def emitted(self, history: History, i: int, replay: int, outcome: bytes, number: int, after: int) -> History:
        """An outcome was published. Raises Violation."""
        k = self.world.slot(i, replay)
        slot = history.slots[k]
        if not history.is_spoiled:
            self._check_emission(history, i, slot, outcome)
            if slot.number not in (0, number):
                raise Violation(f"message {i}: emitted as number {number}, was {slot.number}")
            if slot.emitted == b"-" and not replay:
                self._check_order(history, i, number, after)
        if slot.emitted != b"-":
            return history
        slots = (*history.slots[:k], slot._replace(emitted=outcome, number=number), *history.slots[k + 1 :])
        return history._replace(slots=slots)

    def _check_emission(self, history: History, i: int, slot: Slot, outcome: bytes) -> None:
        if slot.recorded != outcome:
            raise Violation(f"message {i}: emitted {outcome!r}, recorded first was {slot.recorded!r}")
        if slot.emitted not in (b"-", outcome):
            raise Violation(f"message {i}: emitted {outcome!r} after {slot.emitted!r}")
        kind, mask, number, into = parsed(outcome)
        if kind == "merged":
            other = history.slots[self.world.slot(into, 0)].recorded
            if other == b"-" or parsed(other)[1:3] != (mask, number) or not mask >> i & mask >> into & 1:
                raise Violation(f"message {i} merged into {into}, whose outcome is of another turn: {other!r}")

    def _check_order(self, history: History, i: int, number: int, after: int) -> None:
        for j in self.before(history, i):
            before = history.slots[self.world.slot(j, 0)]
            if before.emitted == b"-":
                raise Violation(f"message {i} emitted before message {j}")
            if history.entered >> i & 1 and not before.number <= after < number:
                raise Violation(f"message {i} is number {number} after {after}, message {j} was {before.number}")

    def before(self, history: History, i: int) -> list[int]:
        """The messages that must go before this one: none if its place is by a clock that nothing is known of."""
        is_placed = history.entered >> i & 1 or not self.world.scope.clocks
        return [j for j in range(i) if history.entered >> j & is_placed]


# ---- what can happen next ------------------------------------------------------------------------


class Late(NamedTuple):
    """A call that is still on its way though its caller gave it up; its names are renamed as those of workers are."""

    name: str
    owner: int
    fresh: int
    tag: int
    rest: tuple[Any, ...]

    def arguments(self) -> tuple[Any, ...]:
        """As `Inboxes.call` takes them."""
        match self.name:
            case "begin":
                delivery, failure = self.rest
                return (delivery, self.fresh, failure)
            case "record":
                return (self.owner, self.tag, *self.rest, self.fresh)
            case "emitted":
                return (self.owner, *self.rest, self.fresh)
            case "ask" | "later" | "renew":
                return (self.owner, self.tag, *self.rest)
        return self.rest


_SAME = Late("as it is", 0, 0, 0, ())


class _Moves:
    """Collects the moves from one state."""

    def __init__(self, world: World, state: State) -> None:
        self.world, self.scope, self.state = world, world.scope, state
        self.inbox, self.queue, self.tasks, self.late, self.history = state
        self.book = _Book(world)
        self.turn = world.inboxes.states[state.inbox].turn
        self.call = world.inboxes.call
        self.instants = (AT_ONCE, QUIET) if world.scope.is_quiet else (QUIET,)
        self.moves: list[Move] = []

    def all(self) -> list[Move]:
        """Everything, in no particular order."""
        self.ingress()
        self.broker()
        for k, task in enumerate(self.tasks):
            if not k or self.tasks[k - 1] != task:
                self.worker(task, self.tasks[:k] + self.tasks[k + 1 :])
        self.processes()
        self.time()
        self.late_call()
        self.redis()
        self.people()
        return self.moves

    # -- adding a move

    def can(self, fault: str, cost: int = 1) -> bool:
        return self.history.faults >= cost and (not self.scope.kinds or fault in self.scope.kinds)

    def add(
        self,
        name: str,
        cost: int = 0,
        called: Called | None = None,
        *,
        queue: tuple[Delivery, ...] | None = None,
        tasks: tuple[Task, ...] | None = None,
        new: tuple[Task, ...] = (),
        late: Late | None = _SAME,
        history: History | None = None,
    ) -> None:
        """`tasks` are those that go on, `new` those whose grant is of this very call. Raises nothing: a violation is a
        move too."""
        names = self.world.inboxes.names(self.inbox) if called is None else called.names
        tasks = self.tasks if tasks is None else tasks
        late = self.late if late is _SAME else late
        history = history or self.history
        try:
            if called is not None:
                history = self.book.recorded(history, called.recorded)
                if called.is_handed_out:
                    tasks = tuple(task._replace(tag=task.tag & 2) if task.tag else task for task in tasks)
                    late = late._replace(tag=late.tag & 2) if late is not None else None
            if cost:
                history = history._replace(faults=history.faults - cost)
            inbox = self.inbox if called is None else called.inbox
            queue = self.queue if queue is None else tuple(sorted(queue))
            following = _canonical(State(inbox, queue, tasks + new, late, history), names)
            if following == self.state:
                return
            self.world.check(following)
        except Violation as violation:
            self.moves.append((name, cost, violation))
            return
        self.moves.append((name, cost, following))

    def stays(self, name: str, late: Late) -> None:
        """A copy of a call stays on its way."""
        if self.late is None and self.can("late"):
            self.add(f"a copy of {name} stays on its way", 1, late=late)

    def attempt(self, name: str, note: Any, *args: Any, **kwargs: Any) -> History | None:
        """What the book makes of an event; a violation becomes a move, and None."""
        try:
            noted: History = note(*args, **kwargs)
        except Violation as violation:
            self.moves.append((name, 0, violation))
            return None
        return noted

    # -- ingress: accepts go in order, publishes in any

    def ingress(self) -> None:
        for i, phase in enumerate(self.history.ingress):
            if phase == NEW and (i == 0 or self.history.ingress[i - 1] != NEW):
                self.accept(i)
            if phase in (ENTERED, AWAY, REENTERED):
                self.add(f"publish {i}, 202", queue=(*self.queue, self.first(i)), history=self.at(i, ACCEPTED))
            if phase in (ENTERED, AWAY):
                self.not_published(i)
            if phase == UNSURE:  # the client comes again with its key: the same id
                called = self.call("accept", self.inbox, i)
                phase = REJECTED if called.answer[0] == "rejected" else REENTERED
                self.add(f"accept {i} again", 0, called, history=self.at(i, phase))

    def accept(self, i: int) -> None:
        called = self.call("accept", self.inbox, i)
        if called.answer[0] == "rejected":
            self.add(f"accept {i}: rejected", 0, called, history=self.at(i, REJECTED))
        else:
            history = self.at(i, ENTERED)
            self.add(f"accept {i}", 0, called, history=history._replace(entered=history.entered | 1 << i))
        if self.can("away"):
            self.add(f"accept {i} not possible, Redis is away", 1, history=self.at(i, AWAY))
        self.stays(f"accept {i}", Late("accept", 0, 0, 0, (i,)))

    def not_published(self, i: int) -> None:
        there = (*self.queue, self.first(i))
        if self.can("ingress"):
            self.add(f"ingress dies before publishing {i}", 1, history=self.at(i, GONE))
            self.add(f"ingress dies after publishing {i}, no 202", 1, queue=there, history=self.at(i, GONE))
        withdrawn = self.call("withdraw", self.inbox, i)
        late = Late("withdraw", 0, 0, 0, (i,))
        left = self.history.entered & ~(1 << i)
        if self.can("refused"):
            history = self.at(i, REFUSED)._replace(entered=left)
            self.add(f"publish {i} refused, withdrawn, 503", 1, withdrawn, history=history)
            if self.late is None and self.can("late", 2):
                self.add(f"publish {i} refused, 503, withdrawal on its way", 2, late=late, history=history)
        if self.can("unsure"):
            history = self.at(i, UNSURE)
            self.add(f"publish {i} not confirmed, it is there", 1, queue=there, history=history)
            self.add(f"publish {i} not confirmed, it is not there", 1, history=history)
            if self.late is None and self.can("late", 2):
                history = history._replace(entered=left)
                name = f"publish {i} not confirmed, withdrawal on its way"
                self.add(name, 2, late=late, queue=there, history=history)

    def at(self, i: int, phase: int) -> History:
        phases = self.history.ingress
        return self.history._replace(ingress=(*phases[:i], phase, *phases[i + 1 :]))

    def first(self, i: int, replay: int = 0) -> Delivery:
        return (i, AUDIO if self.scope.types[i] == "a" else TEXT, replay)

    # -- RabbitMQ, and the transcriber

    def broker(self) -> None:
        for delivery in dict.fromkeys(self.queue):
            i, kind, replay = delivery
            rest = _without(self.queue, delivery)
            if self.can("dup") and self.queue.count(delivery) < 2:
                self.add(f"delivery {delivery} doubled", 1, queue=(*self.queue, delivery))
            is_last = not any(other[0] == i for other in rest) and not any(task.delivery[0] == i for task in self.tasks)
            if self.can("purge") and is_last:
                history = self.history._replace(purged=self.history.purged | 1 << i)
                self.add(f"delivery {delivery} purged", 1, queue=rest, history=history)
            if kind == AUDIO:
                self.transcriber(delivery, rest)
            elif len(self.tasks) < self.scope.tasks:
                self.begin(delivery, rest)

    def transcriber(self, delivery: Delivery, rest: tuple[Delivery, ...]) -> None:
        i, _, replay = delivery
        if not replay:
            called = self.call("accept", self.inbox, i, True)
            if called.answer[0] == "ended":
                self.add(f"transcriber finds {i} ended", 0, called, queue=rest)
            else:
                self.add(f"transcriber takes up {i}", 0, called)
        self.add(f"transcribed {i}", queue=(*rest, (i, TEXT, replay)))
        if self.scope.refusals:
            self.add(f"transcription of {i} failed", queue=(*rest, (i, NO_TRANSCRIPT, replay)))

    def begin(self, delivery: Delivery, rest: tuple[Delivery, ...]) -> None:
        for at in self.instants:
            self.begin_at(at, delivery, rest, "", 0)
        entries = self.world.inboxes.states[self.inbox].entries
        if entries and not entries[0].is_heard and entries[0].outcome is None:
            first = int(entries[0].ref.message_id)
            in_work = any(other[0] == first for other in self.queue)
            if not in_work or self.can("overdue"):
                self.begin_at(OVERDUE, delivery, rest, f", transcript of {first} is overdue", int(in_work))

    def begin_at(self, at: int, delivery: Delivery, rest: tuple[Delivery, ...], when: str, cost: int) -> None:
        i, kind, replay = delivery
        failure = label("TRANSCRIPTION_ERROR", ((i, replay),), 0, into=-2) if kind == NO_TRANSCRIPT else None
        called = self.call("begin", self.inbox, delivery, FRESH, failure, at=at)
        is_hasty = called.answer[2:] == ("TRANSCRIPTION_ERROR",) and at != OVERDUE
        if self.turn is None and (is_hasty or called.answer[0] == "turn" and at == AT_ONCE):
            self.moves.append((f"begin {delivery}", cost, Violation("not waited for a transcript, or for quiet")))
            return
        what, name = called.answer[0], f"begin {delivery}: {called.answer[0]}{when}"
        late = Late("begin", 0, FRESH, 0, (delivery, failure))
        if what == "done" or called.answer == ("wait", True):
            self.add(name, cost, called, queue=rest)
        elif what == "wait":
            self.add(name, cost, called)
        else:
            task = self.task(delivery, 1, called)
            self.add(name, cost, called, queue=rest, new=(task,))
            if self.late is None and self.can("late", cost + 1):
                self.add(f"{name}, a copy stays on its way", cost + 1, called, queue=rest, new=(task,), late=late)
        if not cost:
            self.stays(f"begin {delivery}", late)

    def task(self, delivery: Delivery, is_held: int, called: Called, history: History | None = None) -> Task:
        """A worker that was told what to do, under a fresh name."""
        what, *rest = called.answer
        if what == "emit":
            refs = tuple(one[:2] for one in rest[0])
            return Task(delivery, is_held, FRESH, 0, EMITTING, refs, rest[0], 0, 0, 0)
        if what == "turn":
            return Task(delivery, is_held, FRESH, 1, BEGUN, rest[0], (), 0, 0, rest[1])
        number = (history or self.history).slots[self.world.slot(*rest[0][-1])].asks
        labels = outcomes(rest[1], rest[0], rest[0], number)
        return Task(delivery, is_held, FRESH, 1, ANSWERED, rest[0], labels, 0, 0, 0)

    # -- the workers

    def worker(self, task: Task, others: tuple[Task, ...]) -> None:
        back = (*self.queue, task.delivery) if task.is_held else self.queue
        who = f"worker of {task.delivery}{'' if task.is_held else ' (unheld)'}"
        act = {
            BEGUN: self.asks,
            ASKING: self.is_answered,
            FAILED: self.puts_off,
            ANSWERED: self.records,
            EMITTING: self.emits,
            EMITTED: self.notes_emitted,
        }[task.phase]
        act(who, task, others, back)
        if task.phase in (BEGUN, ASKING, ANSWERED, FAILED) and self.world.inboxes.states[self.inbox].lease is None:
            called = self.call("renew", self.inbox, task.owner, task.tag)
            if called.inbox != self.inbox:
                history = self.book.reopened(self.history, task)
                self.add(f"{who} renews", 0, called, tasks=(*others, task._replace(is_zombie=0)), history=history)
        self.stays("renew", Late("renew", task.owner, 0, task.tag, ()))
        self.worker_faults(who, task, others, back)

    def asks(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        called = self.call("ask", self.inbox, task.owner, task.tag, task.attempts + 1)
        if called.answer[0] == "lost":
            self.add(f"{who} ask: lost its place", 0, called, queue=back, tasks=others)
        elif called.answer == ("held", True):
            stopped = task._replace(phase=FAILED, data=(True, 0, None))
            self.add(f"{who} ask: is to stop", 0, called, tasks=(*others, stopped))
        else:
            name = f"{who} asks for {task.refs}"
            history = self.attempt(name, self.asked, task, others)
            if history is not None:
                asking = task._replace(phase=ASKING, has_asked=1, is_zombie=0, attempts=task.attempts + 1)
                self.add(name, 0, called, tasks=(*others, asking), history=history)
        if self.history.errors:
            stopped = task._replace(phase=FAILED, data=(True, ENDLESS, None), has_asked=0)
            history = self.history._replace(errors=self.history.errors - 1)
            self.add(f"{who}: a guard says not now", tasks=(*others, stopped), history=history)
        self.stays("ask", Late("ask", task.owner, 0, task.tag, (task.attempts + 1,)))

    def asked(self, task: Task, others: tuple[Task, ...]) -> History:
        """Raises Violation, also for a turn that should not have been made."""
        turn = self.turn
        assert turn is not None
        if not self.history.is_spoiled:
            self.check_turn(task, turn)
        return self.book.asked(self.history, task.refs, others, is_uncertain=turn.is_uncertain)

    def check_turn(self, task: Task, turn: CurrentTurn) -> None:
        types, modes = self.scope.types, self.scope.modes
        entries = self.world.inboxes.states[self.inbox].entries
        if any(entry.ref in turn.refs and not entry.is_heard for entry in entries):
            raise Violation("asked without a transcript")
        if turn.not_before:
            raise Violation("asked before its time")
        if turn.lost > self.scope.most_lost:
            raise Violation("asked though too many asks of it were lost")
        slots = [self.history.slots[self.world.slot(*run)] for run in task.refs]
        if turn.attempts > min(slot.asks for slot in slots):
            raise Violation("an attempt is counted that never was")
        if turn.lost < min(slot.deaths for slot in slots):
            raise Violation("the death of a worker is not counted")
        if turn.lost > min(slot.asks for slot in slots):
            raise Violation("a message counts a lost ask that it had no part in")
        for i, replay in task.refs[len(task.refs) == 1 :]:
            if types[i] == "h" or replay:
                raise Violation(f"message {i} is asked with others, it should be alone")
        if any(modes[i : i + 1] in ("", "q", "r") for i, _ in task.refs[1:]):
            raise Violation("a message that should wait is asked with those before it")

    def is_answered(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        number = self.history.slots[self.world.slot(*task.refs[-1])].asks
        answer = outcomes("answer", task.refs, task.refs, number)
        failure = outcomes("refused", task.refs, task.refs, number)
        self.add(f"{who} answered", tasks=(*others, task._replace(phase=ANSWERED, data=answer)))
        refused = task._replace(phase=ANSWERED, data=failure)
        if self.history.refusals:
            history = self.history._replace(refusals=self.history.refusals - 1)
            self.add(f"{who} refused for good", tasks=(*others, refused), history=history)
        for is_sure in (True, False):
            history = self.book.closed(self.history, task, is_sure=is_sure)
            if self.history.errors:
                history = history._replace(errors=history.errors - 1)
                if task.attempts >= self.scope.most_attempts:
                    self.add(f"{who} out of attempts", tasks=(*others, refused), history=history)
                else:
                    give_up = 0 if self.scope.gives_up else None
                    failed = task._replace(phase=FAILED, data=(is_sure, ENDLESS, give_up), has_asked=0)
                    self.add(f"{who} {'error' if is_sure else 'timeout'}", tasks=(*others, failed), history=history)
            if self.call("renew", self.inbox, task.owner, task.tag).answer == ("held", True):
                history = self.book.closed(self.history, task, is_sure=is_sure)
                stopped = task._replace(phase=FAILED, data=(is_sure, 0, None), has_asked=0)
                self.add(f"{who} stops{'' if is_sure else ', perhaps'}", tasks=(*others, stopped), history=history)

    def puts_off(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        is_sure, delay, give_up = task.data
        arguments = (is_sure, task.attempts, delay, give_up)
        called = self.call("later", self.inbox, task.owner, task.tag, *arguments)
        if called.answer[0] == "overdue":
            labels = outcomes("refused", task.refs, task.refs, self.history.slots[self.world.slot(*task.refs[-1])].asks)
            self.add(f"{who} gives up", 0, called, tasks=(*others, task._replace(phase=ANSWERED, data=labels)))
        else:
            self.add(f"{who} later", 0, called, queue=back, tasks=others)
        self.stays("later", Late("later", task.owner, 0, task.tag, arguments))

    def records(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        own = (task.delivery[0], task.delivery[2])
        arguments = (task.refs, task.data, own)
        for at in self.instants:
            called = self.call("record", self.inbox, task.owner, task.tag, *arguments, FRESH, at=at)
            name = f"{who} records: {called.answer[0]}"
            if called.answer[0] == "changed":
                refs = called.answer[1]
                kind, _, number, _ = parsed(task.data[-1])
                changed = task._replace(refs=refs, data=outcomes(kind, refs, task.refs, number))
                self.add(name, 0, called, tasks=(*others, changed))
                continue
            is_kept = {one[:2] for one in called.recorded} >= set(task.refs)
            if not is_kept and self.is_unfair(task):
                self.moves.append((name, 0, Violation("an outcome is refused though its worker has kept its place")))
                continue
            history = self.history if is_kept else self.book.closed(self.history, task)
            late = Late("record", task.owner, FRESH, task.tag, arguments)
            self.goes_on(name, called, task, others, back, history, late)
        self.stays("record", Late("record", task.owner, FRESH, task.tag, arguments))

    def is_unfair(self, task: Task) -> bool:
        """Whether the task has had its lease all the time, and nobody else ended its messages."""
        ended = [self.history.slots[self.world.slot(*run)].recorded != b"-" for run in task.refs]
        return not (task.is_zombie or self.history.is_spoiled or any(ended))

    def goes_on(
        self,
        name: str,
        called: Called,
        task: Task,
        others: tuple[Task, ...],
        back: tuple[Delivery, ...],
        history: History,
        late: Late,
    ) -> None:
        """With what a call said is to be done."""
        what = called.answer[0]
        if what == "done" or called.answer == ("wait", True):
            self.add(f"{name}, acks", 0, called, tasks=others, history=history)
        elif what == "wait":
            self.add(f"{name}, goes back", 0, called, queue=back, tasks=others, history=history)
        else:
            new = (self.task(task.delivery, task.is_held, called, history),)
            self.add(name, 0, called, tasks=others, new=new, history=history)
            if self.late is None and self.can("late"):
                self.add(
                    f"{name}, a copy stays on its way", 1, called, tasks=others, new=new, history=history, late=late
                )

    def emits(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        first, *more = task.data
        name = f"{who} emits {first}"
        history = self.attempt(name, self.book.emitted, self.history, *first)
        if history is not None:
            phase = EMITTING if more else EMITTED
            self.add(name, tasks=(*others, task._replace(phase=phase, data=tuple(more))), history=history)

    def notes_emitted(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        own = (task.delivery[0], task.delivery[2])
        called = self.call("hand_over", self.inbox, task.owner, task.refs, own)
        is_over = called.answer[-1] is True or called.answer[0] == "done"
        name = f"{who} emitted, {'acks' if is_over else 'goes back'}"
        self.add(name, 0, called, queue=self.queue if is_over else back, tasks=others)
        if self.can("crash"):
            self.add(f"{who} emitted, dies before its ack", 1, called, queue=back, tasks=others)
        for at in self.instants:
            called = self.call("emitted", self.inbox, task.owner, task.refs, own, FRESH, at=at)
            late = Late("emitted", task.owner, FRESH, 0, (task.refs, own))
            name = f"{who} emitted, works on: {called.answer[0]}"
            self.goes_on(name, called, task, others, back, self.history, late)
        self.stays("emitted", Late("emitted", task.owner, FRESH, 0, (task.refs, own)))

    # -- faults

    def worker_faults(self, who: str, task: Task, others: tuple[Task, ...], back: tuple[Delivery, ...]) -> None:
        lease = self.world.inboxes.states[self.inbox].lease
        closed = self.book.closed(self.history, task)
        if self.can("crash"):
            dead = self.book.closed(self.history, task, is_death=True)
            self.add(f"{who} dies", 1, queue=back, tasks=others, history=dead)
        if task.is_held and self.can("connection"):
            self.add(f"{who} loses its connection", 1, queue=back, tasks=(*others, task._replace(is_held=0)))
        if lease is not None and task.owner == 1 and self.can("lapse"):
            called = self.call("lease_ends", self.inbox)
            zombie = task._replace(is_zombie=1)
            self.add(f"{who}'s lease lapses", 1, called, tasks=(*others, zombie), history=closed)
        if task.phase in (BEGUN, ASKING) and self.can("drain"):
            arguments = (False, task.attempts, 0, None)
            called = self.call("later", self.inbox, task.owner, task.tag, *arguments)
            self.add(f"{who} drains", 1, called, queue=back, tasks=others, history=closed)
            if self.late is None and self.can("late", 2):
                late = Late("later", task.owner, 0, task.tag, arguments)
                name = f"{who} drains, its release is on its way"
                self.add(name, 2, queue=back, tasks=others, history=closed, late=late)

    def processes(self) -> None:
        if len(self.tasks) < 2:
            return
        held = tuple(task.delivery for task in self.tasks if task.is_held)
        if self.can("crash"):
            history = self.history
            for task in self.tasks:
                history = self.book.closed(history, task, is_death=True)
            self.add("the process dies", 1, queue=self.queue + held, tasks=(), history=history)
        if len(held) == len(self.tasks) and self.can("connection"):
            tasks = tuple(task._replace(is_held=0) for task in self.tasks)
            self.add("the process loses its connection", 1, queue=self.queue + held, tasks=tasks)

    def time(self) -> None:
        inbox = self.world.inboxes.states[self.inbox]
        if inbox.lease is not None and not any(task.owner == 1 for task in self.tasks):
            self.add("the lease of a dead worker ends", 0, self.call("lease_ends", self.inbox))
        if self.turn is not None and self.turn.not_before:
            self.add("not_before comes", 0, self.call("pause_ends", self.inbox))

    def late_call(self) -> None:
        if self.late is None:
            return
        called = self.call(self.late.name, self.inbox, *self.late.arguments())
        history = self.history
        name = f"a late {self.late.name} arrives"
        if self.late.name == "ask" and called.answer[0] == "held":  # nobody was asked, but nobody can know that
            turn = self.world.inboxes.states[called.inbox].turn
            assert turn is not None
            slots = list(history.slots)
            for ref in turn.refs:
                k = self.world.slot(int(ref.message_id), ref.replay)
                slots[k] = slots[k]._replace(asks=slots[k].asks + 1)
            history = history._replace(slots=tuple(slots))
        self.add(name, 0, called, late=None, history=history)

    def redis(self) -> None:
        zombies = tuple(task._replace(is_zombie=1) for task in self.tasks)
        spoiled = self.history._replace(is_spoiled=1)
        for kind, parts in (("flush", ("everything",)), ("partial", ("entries", "turn and lease", "ended"))):
            for what in parts if self.can(kind) else ():
                called = self.call("lose", self.inbox, what)
                if called.inbox != self.inbox:
                    self.add(f"Redis loses {what}", 1, called, tasks=zombies, history=spoiled)
        if "rollback" in self.scope.kinds and self.history.faults:
            self.failover(zombies, spoiled)

    def failover(self, zombies: tuple[Task, ...], spoiled: History) -> None:
        past = self.history.past
        if past is None:
            inbox = self.world.inboxes.states[self.inbox]
            turn_owner = int(self.turn.grant.owner or 0) if self.turn is not None else 0
            past = Past(self.inbox, int(inbox.lease is not None), turn_owner)
            tasks = tuple(task._replace(tag=task.tag | (task.tag & 1) << 1) for task in self.tasks)
            self.add("what a replica has", tasks=tasks, history=self.history._replace(past=past))
        elif past.inbox >= 0:
            called = self.call("fail_over", self.inbox, *past)
            tasks = tuple(task._replace(tag=task.tag >> 1) for task in zombies)
            late = self.late._replace(tag=self.late.tag >> 1) if self.late is not None else None
            over = spoiled._replace(past=Past(-1, 0, 0))
            self.add("Redis fails over and forgets", 1, called, tasks=tasks, late=late, history=over)

    # -- people

    def people(self) -> None:
        for i in range(self.world.count):
            if self.history.replays:
                self.operator(i)
            if self.history.cancels and self.history.ingress[i] == ACCEPTED:
                called = self.call("cancel", self.inbox, i)
                if called.inbox != self.inbox:
                    history = self.history._replace(cancels=self.history.cancels - 1)
                    self.add(f"client cancels {i}", 0, called, history=history)
                self.stays(f"cancel {i}", Late("cancel", 0, 0, 0, (i,)))

    def operator(self, i: int) -> None:
        emitted = self.history.slots[self.world.slot(i, 0)].emitted
        if emitted != b"-" and parsed(emitted)[0] in _FAILURES:
            history = self.history._replace(
                purged=self.history.purged & ~(1 << i),
                published=self.history.published | 1 << self.world.slot(i, 1),
                replays=self.history.replays - 1,
            )
            self.add(f"operator replays {i}", queue=(*self.queue, self.first(i, 1)), history=history)


def _without(queue: tuple[Delivery, ...], delivery: Delivery) -> tuple[Delivery, ...]:
    k = queue.index(delivery)
    return queue[:k] + queue[k + 1 :]


def _canonical(state: State, names: dict[int, int]) -> State:
    """Names of workers are random: number them by where they appear, the inbox first."""
    names = dict(names)
    tasks, late, past = state.tasks, state.late, state.history.past
    if len(tasks) > 1:
        tasks = tuple(sorted(tasks, key=lambda task: (task[:2], task[3:], names.get(task.owner, ENDLESS))))
    for task in tasks:
        names.setdefault(task.owner, len(names))
    if late is not None:
        names.setdefault(late.owner, len(names))
        names.setdefault(late.fresh, len(names))
        late = late._replace(owner=names[late.owner], fresh=names[late.fresh])
    tasks = tuple(task if names[task.owner] == task.owner else task._replace(owner=names[task.owner]) for task in tasks)
    history = state.history
    if past is not None and past.inbox >= 0:  # its owners are strangers unless they still exist
        lease_owner, turn_owner = (names.get(x, x if x >= 60 else 60 + x) for x in past[1:])
        history = history._replace(past=Past(past.inbox, lease_owner, turn_owner))
    return State(state.inbox, state.queue, tasks, late, history)
