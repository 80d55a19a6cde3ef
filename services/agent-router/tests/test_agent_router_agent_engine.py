"""Which engine is asked, and what it is asked; over both transports, so without either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_agent_router.agent import History, Turn
from eai_agent_router.agent_engine import Engines, build_history_input, build_turn_input
from eai_agent_router.errors import AgentBadRequest
from eai_common.messages import HistoryMessage

ENGINES = Engines(project="rio", region="us-central1", default_id="42")
NAME = "projects/rio/locations/us-central1/reasoningEngines/"
THREAD = {"configurable": {"thread_id": "+5521999999999"}}


@pytest.mark.parametrize(
    ("requested", "name"),
    [(None, NAME + "42"), ("", NAME + "42"), ("7", NAME + "7"), (NAME + "7", NAME + "7")],
)
def test_an_engine_is_named_by_its_digits_or_in_full(requested: str | None, name: str) -> None:
    assert ENGINES.resource_name(requested) == name


@pytest.mark.parametrize(
    "requested",
    [
        "..",
        "../../../projects/other/locations/us-central1/reasoningEngines/7",
        "7/../8",
        "7:query",
        "7?x=1",
        "7#",
        "7%2f..",
        " 7",
        "7\n",
        "٧",
        "seven",
        "-7",
        "7" * 31,
        NAME,
        NAME + "7/operations/1",
        NAME + NAME + "7",
        "projects/other/locations/us-central1/reasoningEngines/7",
        "projects/rio/locations/europe-west1/reasoningEngines/7",
        "/" + NAME + "7",
    ],
)
def test_nothing_else_gets_near_a_path(requested: str) -> None:
    with pytest.raises(AgentBadRequest):
        ENGINES.resource_name(requested)


@given(st.text())
def test_a_name_that_is_accepted_is_the_parents_and_digits(requested: str) -> None:
    try:
        name = ENGINES.resource_name(requested)
    except AgentBadRequest:
        return
    assert name.removeprefix(NAME).isascii()
    assert name.removeprefix(NAME).isdigit()


def test_with_an_allowlist_only_its_engines_and_the_default_one_are_asked() -> None:
    engines = Engines("rio", "us-central1", "42", frozenset({"7"}))
    assert [engines.resource_name(given) for given in ("7", NAME + "7", None)] == [NAME + "7", NAME + "7", NAME + "42"]
    with pytest.raises(AgentBadRequest):
        engines.resource_name("8")


def test_a_question_is_asked_as_the_contract_has_it() -> None:
    assert build_turn_input(Turn("id", "+5521999999999", "Oi")) == {
        "input": {"messages": [{"role": "human", "content": "Oi"}]},
        "config": THREAD,
    }


def test_how_sure_a_transcript_is_stands_beside_the_users_words_and_not_in_them() -> None:
    assert build_turn_input(Turn("id", "+5521999999999", "segunda via", confidence=0.41)) == {
        "input": {"messages": [{"role": "human", "content": "segunda via"}]},
        "config": {**THREAD, "metadata": {"transcript_confidence": 0.41}},
    }


def test_the_previous_message_stands_before_the_question_with_an_id_that_repetitions_share() -> None:
    turn = Turn("id", "+5521999999999", "Sim", previous_message="Quer?")
    assert build_turn_input(turn)["input"] == {
        "messages": [
            {"role": "ai", "content": "Quer?", "id": "id-previous"},
            {"role": "human", "content": "Sim"},
        ]
    }


def test_a_history_is_marked_as_one_and_its_messages_have_ids_that_repetitions_share() -> None:
    said = (HistoryMessage(content="Oi", role="human"), HistoryMessage(content="Olá", role="ai"))
    assert build_history_input(History("id", "+5521999999999", said)) == {
        "input": {
            "messages": [
                {"role": "human", "content": "Oi", "id": "id-0"},
                {"role": "ai", "content": "Olá", "id": "id-1"},
            ],
            "type": "history",
        },
        "config": THREAD,
        "type": "history",
    }
