"""The registry: what follows from its lines, and that the lines are true."""

from __future__ import annotations

import pytest

from eai_common import registry
from eai_common.messages import EVENTS
from eai_common.registry import (
    STAGES,
    StageEntry,
    bindings,
    find_stage,
    list_provider_names,
    list_service_names,
    list_stages_passed,
)
from eai_common.topology import PERMIT


@pytest.fixture()
def _a_fifth_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    fifth = StageEntry("counter", "eai_counter.service:COUNTER", ("task.completed",))
    monkeypatch.setattr(registry, "STAGES", (*STAGES, fifth))


def test_the_way_of_each_kind_of_message_is_that_of_the_architecture() -> None:
    assert {event: list_stages_passed(event) for event in ("message.text", "message.audio", "history.update")} == {
        "message.text": ("agent-router", "formatter"),
        "message.audio": ("transcriber", "agent-router", "formatter"),
        "history.update": ("agent-router", "formatter"),
    }


@pytest.mark.usefixtures("_a_fifth_stage")
def test_a_stage_after_the_answer_is_on_no_messages_way() -> None:
    assert "counter" not in list_stages_passed("message.audio")
    assert bindings()["counter"] == ("task.completed",)
    assert list_service_names()[-1] == "counter"


def test_a_service_has_the_name_of_its_first_stage() -> None:
    assert list_service_names()[:5] == ("ingress", "transcriber", "agent-router", "formatter", "poller")
    assert "callbacks" not in list_service_names()


def test_every_event_that_leads_to_an_answer_enters_one_stage() -> None:
    consumed = [event for events in bindings().values() for event in events if event != "task.completed"]
    assert sorted(consumed) == sorted(set(consumed))


def test_every_event_is_consumed_and_every_routing_key_is_an_event_or_a_permit() -> None:
    consumed = {event for events in bindings().values() for event in events}
    assert consumed == {*EVENTS, PERMIT}


def test_an_event_that_is_emitted_is_consumed() -> None:
    assert {find_stage(event) for stage in STAGES for event in stage.emits} <= {stage.name for stage in STAGES}


def test_an_event_that_nobody_consumes_has_no_stage() -> None:
    with pytest.raises(KeyError, match=r"message\.nobody"):
        find_stage("message.nobody")


def test_no_name_is_used_twice() -> None:
    assert len(set(list_provider_names())) == len(list_provider_names())
    assert len({stage.name for stage in STAGES}) == len(STAGES)
