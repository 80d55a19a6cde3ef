"""What a user's inbox answers where more than one answer would be safe; the checker in tests/model sees to the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eai_common.turns import machine
from eai_common.turns.state import (
    CANCELLED,
    Accepted,
    Answered,
    Cancelled,
    Changed,
    CurrentTurn,
    Done,
    Emit,
    Ended,
    Fail,
    Grant,
    HandOver,
    Held,
    Inbox,
    Lost,
    Message,
    Mode,
    Overdue,
    Postponed,
    Ref,
    Rejected,
    Rules,
    Turn,
    Unknown,
    Wait,
)

START = 1_000_000
MERGING = Rules(merge_window_ms=2_000)


def a_message(
    name: str, at: int = START, *, mode: Mode = "queue", group: str = "agent", is_heard: bool = True
) -> Message:
    return Message(Ref(name), at, name.encode(), group, mode, is_heard)


class User:
    """A user's inbox, and what was answered last. Time stands still unless a test moves it."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.inbox = Inbox()
        self.now = START
        self.names = iter(f"name {number}" for number in range(100))

    def accepts(self, *messages: Message, is_late: bool = False) -> object:
        answer: object = None
        for message in messages:
            self.inbox, answer = machine.accept(self.inbox, message, is_late=is_late, rules=self.rules, now=self.now)
        return answer

    def begins(self, message: Message, *, failure: bytes | None = None) -> object:
        self.inbox, answer = machine.begin(
            self.inbox, message, next(self.names), failure=failure, rules=self.rules, now=self.now
        )
        return answer

    def turn(self, message: Message) -> Turn:
        answer = self.begins(message)
        assert isinstance(answer, Turn)
        return answer

    def asks(self, turn: Turn) -> object:
        self.inbox, answer = machine.ask(self.inbox, turn.grant, turn.attempts + 1, rules=self.rules, now=self.now)
        return answer

    def postpones(
        self, turn: Turn, delay_ms: int = 0, *, is_sure: bool = True, give_up_after_ms: int | None = None
    ) -> object:
        self.inbox, answer = machine.later(
            self.inbox,
            turn.grant,
            delay_ms=delay_ms,
            is_sure=True,
            attempts=turn.attempts + 1,
            errors=b"[1]",
            give_up_after_ms=give_up_after_ms,
            now=self.now,
        )
        return answer

    def records(self, turn: Turn | Fail, *outcomes: bytes) -> object:
        refs = [question.ref for question in turn.questions]
        told = dict(zip(refs, outcomes, strict=True))
        self.inbox, answer = machine.record(
            self.inbox, turn.grant, told, refs[-1], next(self.names), rules=self.rules, now=self.now
        )
        return answer

    def emitted(self, emit: object, own: Ref | None = None) -> object:
        assert isinstance(emit, Emit)
        refs = [emission.ref for emission in emit.emissions]
        self.inbox, answer = machine.emitted(
            self.inbox, emit.owner, refs, own or refs[-1], next(self.names), rules=self.rules, now=self.now
        )
        return answer

    def answers(self, message: Message, outcome: bytes = b"answer") -> object:
        """Takes a message through to its end."""
        turn = self.turn(message)
        self.asks(turn)
        return self.emitted(self.records(turn, *[outcome] * len(turn.questions)))

    def renews(self, turn: Turn) -> object:
        self.inbox, answer = machine.renew(self.inbox, turn.grant, rules=self.rules, now=self.now)
        return answer

    def cancels(self, name: str) -> object:
        self.inbox, answer = machine.cancel(self.inbox, name)
        return answer


def names(turn: object) -> list[str]:
    assert isinstance(turn, Turn | Fail)
    return [question.ref.message_id for question in turn.questions]


@pytest.fixture()
def user() -> User:
    return User()


# ---- places --------------------------------------------------------------------------------------


def test_a_message_goes_behind_all_others_although_clocks_differ(user: User) -> None:
    user.accepts(a_message("a", START + 500), a_message("b", START))
    assert [(entry.ref.message_id, entry.place) for entry in user.inbox.entries] == [
        ("a", START + 500),
        ("b", START + 501),
    ]


def test_a_message_goes_behind_those_that_have_left(user: User) -> None:
    user.accepts(a_message("a", START + 500))
    user.answers(a_message("a", START + 500))
    user.accepts(a_message("b", START))
    assert user.inbox.entries[0].place == START + 501


def test_what_redis_forgot_goes_back_to_where_it_was(user: User) -> None:
    user.accepts(a_message("b", START + 1))
    user.accepts(a_message("a", START, is_heard=False), is_late=True)
    assert [entry.ref.message_id for entry in user.inbox.entries] == ["a", "b"]


def test_a_message_that_has_ended_is_not_entered_again(user: User) -> None:
    user.accepts(a_message("a"))
    user.answers(a_message("a"))
    assert user.accepts(a_message("a")) == Ended()
    assert user.inbox.entries == ()


def test_the_transcriber_learns_that_a_message_has_its_outcome(user: User) -> None:
    audio = a_message("a", is_heard=False)
    user.accepts(audio)
    user.cancels("a")
    assert user.accepts(audio, is_late=True) == Accepted(has_outcome=True)


def test_the_transcriber_of_a_replay_enters_nothing(user: User) -> None:
    user.accepts(a_message("a"))
    user.answers(a_message("a"))
    replayed = replace(a_message("a", is_heard=False), ref=Ref("a", 1))
    assert user.accepts(replayed, is_late=True) == Accepted()
    assert user.inbox.entries == ()


# ---- waiting -------------------------------------------------------------------------------------


def test_who_waits_is_told_how_far_behind_it_is(user: User) -> None:
    user.accepts(a_message("a"), a_message("b"), a_message("c"))
    user.turn(a_message("b"))
    ranks = [user.begins(a_message(name)) for name in "abc"]
    assert ranks == [Wait(10_000, rank) for rank in (0, 1, 2)]


def test_a_turn_that_was_put_off_waits_for_its_time(user: User) -> None:
    turn = user.turn(a_message("a"))
    assert user.postpones(turn, 5_000) == Postponed()
    assert user.begins(a_message("a")) == Wait(5_000)
    user.now += 5_000
    assert user.turn(a_message("a")).errors == b"[1]"


def test_a_delivery_whose_message_has_ended_meanwhile_is_told_to_ack(user: User) -> None:
    user.accepts(a_message("a"), a_message("b"))
    turn = user.turn(a_message("b"))  # works on a
    user.asks(turn)
    step = user.records(turn, b"answer")
    user.accepts(a_message("c", is_heard=False))
    assert isinstance(user.emitted(step, own=Ref("b")), Turn)
    assert user.begins(a_message("a")) == Done()


def test_a_voice_message_that_nobody_transcribes_fails_in_the_end(user: User) -> None:
    user.accepts(a_message("a", is_heard=False), a_message("b"))
    assert user.begins(a_message("b")) == Wait(15 * 60_000, 1)
    user.now += 15 * 60_000
    answer = user.begins(a_message("b"))
    assert isinstance(answer, Fail)
    assert (answer.code, names(answer)) == ("TRANSCRIPTION_ERROR", ["a"])


# ---- giving up -----------------------------------------------------------------------------------


def test_a_turn_is_given_up_for_those_behind_it_once_it_has_been_tried_for_long_enough(user: User) -> None:
    user.accepts(a_message("a"), a_message("b"))
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.now += 60_000
    assert user.postpones(turn, give_up_after_ms=60_001) == Postponed()
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.now += 1
    assert user.postpones(turn, give_up_after_ms=60_001) == Overdue()
    assert isinstance(user.records(turn, b"failure"), Emit)


def test_a_turn_that_nobody_waits_for_may_be_tried_for_longer(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.now += 60_000
    assert user.postpones(turn, give_up_after_ms=1) == Postponed()


def test_a_turn_that_takes_its_workers_with_it_is_given_up(user: User) -> None:
    for lost in range(4):
        turn = user.turn(a_message("a"))
        assert turn.lost == lost
        user.asks(turn)
        user.now += 10_000
    answer = user.begins(a_message("a"))
    assert isinstance(answer, Fail)
    assert answer.code == "POISON_MESSAGE"


def test_a_history_update_is_never_uncertain() -> None:
    user = User(Rules(fail_if_uncertain=True))
    update = a_message("a", group="")
    user.asks(user.turn(update))
    user.now += 10_000
    turn = user.turn(update)
    assert (turn.lost, turn.is_uncertain) == (1, False)


# ---- merging -------------------------------------------------------------------------------------


def test_messages_of_a_burst_are_one_turn_once_the_user_is_quiet() -> None:
    user = User(MERGING)
    user.accepts(a_message("a", mode="merge"))
    user.now += 1_500
    user.accepts(a_message("b", mode="merge"))
    assert user.begins(a_message("a")) == Wait(2_000)
    user.now += 2_000
    assert names(user.begins(a_message("a"))) == ["a", "b"]


def test_a_user_who_is_never_quiet_is_answered_after_five_windows() -> None:
    user = User(MERGING)
    for number in range(6):
        user.accepts(a_message(f"{number}", mode="merge"))
        user.now += 1_900
    assert names(user.begins(a_message("0"))) == [f"{number}" for number in range(6)]


def test_a_first_message_waits_longer_for_a_voice_message_that_is_being_transcribed() -> None:
    user = User(MERGING)
    user.accepts(a_message("a", mode="merge"), a_message("b", mode="merge", is_heard=False))
    user.now += 2_000
    assert user.begins(a_message("a")) == Wait(8_000)
    assert names(user.begins(a_message("b"))) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [a_message("b", mode="merge", group=""), a_message("b", mode="merge", group="other"), a_message("b")],
    ids=["history", "another agent", "queue"],
)
def test_one_that_cannot_join_ends_the_waiting(other: Message) -> None:
    user = User(MERGING)
    user.accepts(a_message("a", mode="merge"), other)
    assert names(user.begins(a_message("a"))) == ["a"]


def test_a_turn_stays_as_it_was_formed() -> None:
    user = User(MERGING)
    user.accepts(a_message("a", mode="merge"))
    user.now += 2_000
    user.postpones(user.turn(a_message("a")))
    user.accepts(a_message("b", mode="merge"))
    assert names(user.begins(a_message("a"))) == ["a"]


def test_a_turn_has_a_most_of_messages() -> None:
    user = User(replace(MERGING, turn_size=2))
    user.accepts(*(a_message(name, mode="merge") for name in "abc"))
    assert names(user.begins(a_message("a"))) == ["a", "b"]


def test_a_message_that_queues_can_be_joined_by_one_that_merges(user: User) -> None:
    user.accepts(a_message("a"), a_message("b", mode="merge"))
    assert names(user.begins(a_message("a"))) == ["a", "b"]


# ---- double texting ------------------------------------------------------------------------------


def test_a_message_that_wants_to_be_alone_is_rejected_beside_one_without_an_answer(user: User) -> None:
    assert user.accepts(a_message("a", mode="reject")) == Accepted()
    assert user.accepts(a_message("b", mode="reject")) == Rejected("a")
    user.answers(a_message("a"))
    assert user.accepts(a_message("b", mode="reject")) == Accepted()


def test_an_interrupted_turn_is_asked_together_with_what_interrupted_it(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.accepts(a_message("b", mode="interrupt"))
    assert user.renews(turn) == Held(is_interrupted=True)
    user.postpones(turn)
    again = user.turn(a_message("a"))
    assert (names(again), again.attempts, again.errors) == (["a", "b"], 0, b"")


def test_a_turn_that_was_not_asked_yet_is_interrupted_before_it_is(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.accepts(a_message("b", mode="interrupt"))
    assert user.asks(turn) == Held(is_interrupted=True)


def test_an_answer_that_comes_before_the_interruption_counts(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.accepts(a_message("b", mode="interrupt"))
    step = user.records(turn, b"answer")
    assert isinstance(step, Emit)
    assert names(user.emitted(step, own=Ref("b"))) == ["b"]


def test_a_voice_message_interrupts_once_it_is_understood(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.accepts(a_message("b", mode="interrupt", is_heard=False))
    assert user.renews(turn) == Held()
    user.begins(a_message("b", mode="interrupt"))
    assert user.renews(turn) == Held(is_interrupted=True)


def test_a_turn_that_could_not_be_joined_is_not_interrupted(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.accepts(a_message("b", mode="interrupt", group="other"))
    assert user.renews(turn) == Held()


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_message_ends_in_its_place(user: User) -> None:
    user.accepts(a_message("a"), a_message("b"))
    assert user.cancels("b") == Cancelled(b"b")
    turn = user.turn(a_message("b"))
    user.asks(turn)
    step = user.records(turn, b"answer")
    assert isinstance(step, Emit)
    assert [(emission.ref.message_id, emission.outcome) for emission in step.emissions] == [
        ("a", b"answer"),
        ("b", CANCELLED),
    ]


def test_a_running_turn_learns_that_its_message_was_cancelled(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.cancels("a")
    assert isinstance(user.begins(a_message("a")), Wait)
    assert user.renews(turn) == Held(is_interrupted=True)
    step = user.records(turn, b"too late")
    assert isinstance(step, Emit)
    assert [emission.outcome for emission in step.emissions] == [CANCELLED]


def test_the_others_of_a_turn_are_answered_without_the_one_that_was_cancelled(user: User) -> None:
    user.accepts(a_message("a", mode="merge"), a_message("b", mode="merge"))
    turn = user.turn(a_message("a"))
    user.asks(turn)
    user.cancels("b")
    assert user.records(turn, b"merged", b"answer") == Changed((Ref("a"),))


def test_an_answer_cannot_be_cancelled(user: User) -> None:
    turn = user.turn(a_message("a"))
    step = user.records(turn, b"answer")
    assert user.cancels("a") == Answered()
    user.emitted(step)
    assert user.cancels("a") == Answered()
    assert user.cancels("b") == Unknown()


def test_to_cancel_twice_is_to_cancel_once(user: User) -> None:
    user.accepts(a_message("a"))
    assert [user.cancels("a"), user.cancels("a")] == [Cancelled(b"a")] * 2


# ---- outcomes ------------------------------------------------------------------------------------


def test_outcomes_are_numbered_and_name_the_one_before(user: User) -> None:
    user.accepts(a_message("a"))
    user.answers(a_message("a"))
    user.accepts(a_message("b"), a_message("c"))
    user.cancels("b")
    user.cancels("c")
    step = user.begins(a_message("b"))
    assert isinstance(step, Emit)
    assert [(one.number - START, one.after - START) for one in step.emissions] == [(1, 0), (2, 1)]


def test_who_goes_names_what_is_to_be_done_without_taking_it(user: User) -> None:
    user.accepts(a_message("a"), a_message("b"))
    turn = user.turn(a_message("a"))
    step = user.records(turn, b"answer")
    assert isinstance(step, Emit)
    user.inbox, answer = machine.hand_over(user.inbox, step.owner, [Ref("a")], Ref("a"), rules=user.rules, now=user.now)
    assert answer == HandOver(b"b", is_ended=True)
    assert (user.inbox.turn, user.inbox.lease) == (None, None)


def test_a_lost_answer_is_given_again(user: User) -> None:
    message = a_message("a")
    first = machine.begin(user.inbox, message, "worker", rules=user.rules, now=user.now)
    assert machine.begin(first[0], message, "worker", rules=user.rules, now=user.now + 5)[1] == first[1]


def test_a_worker_whose_turn_was_given_to_another_has_lost_it(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.now += 10_000
    user.turn(a_message("a"))
    assert (user.asks(turn), user.postpones(turn), user.renews(turn)) == (Lost(), Lost(), Lost())


def test_a_lease_that_lapsed_is_taken_again(user: User) -> None:
    turn = user.turn(a_message("a"))
    user.now += 10_000
    assert user.renews(turn) == Held()
    assert isinstance(user.begins(a_message("a")), Wait)


def test_a_replay_with_a_higher_number_runs_again(user: User) -> None:
    user.answers(a_message("a"))
    replayed = replace(a_message("a"), ref=Ref("a", 7))
    assert user.answers(replayed) == Done()
    assert user.begins(replayed) == Done()


def test_a_turn_of_what_is_gone_is_dropped(user: User) -> None:
    user.inbox = Inbox(turn=CurrentTurn((Ref("lost"),), Grant("x", 1)))
    assert names(user.begins(a_message("a"))) == ["a"]
