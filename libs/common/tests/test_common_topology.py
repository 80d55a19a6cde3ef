"""The topology as data, and as RabbitMQ is asked for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai_common.broker.rabbitmq_topology import Binding, Exchange, Queue, declarations
from eai_common.registry import bindings
from eai_common.topology import LADDER, Topology

TOPOLOGY = Topology()


def arguments(topology: Topology) -> dict[str, dict[str, str | int]]:
    return {item.name: item.arguments for item in declarations(topology) if isinstance(item, Queue)}


def test_the_names_are_those_of_the_contract() -> None:
    names = set(arguments(TOPOLOGY))
    assert names >= {f"eai.{consumer}{end}" for consumer in bindings() for end in ("", ".dlq")}
    assert names >= {"eai.delay.1", "eai.delay.300", "eai.delay.21600"}


def test_an_unknown_consumer_has_no_queue() -> None:
    with pytest.raises(KeyError):
        TOPOLOGY.queue_of("nobody")


def test_the_ladder_only_climbs() -> None:
    assert list(LADDER) == sorted(set(LADDER))


@given(st.timedeltas(min_value=timedelta(), max_value=LADDER[-1]))
def test_a_delay_is_rounded_up_to_the_next_rung(delay: timedelta) -> None:
    rung = TOPOLOGY.rung_for(delay).delay
    assert rung >= delay
    assert all(shorter < delay for shorter in LADDER if shorter < rung)


@given(st.timedeltas(min_value=LADDER[-1]))
def test_a_delay_longer_than_the_ladder_takes_the_longest_rung(delay: timedelta) -> None:
    assert TOPOLOGY.rung_for(delay).delay == LADDER[-1]


def test_nothing_is_bound_before_it_is_declared() -> None:
    seen: set[str] = set()
    for item in declarations(TOPOLOGY):
        if isinstance(item, Binding):
            assert {item.queue, item.exchange} <= seen
        else:
            seen.add(item.name)


def test_every_dead_letter_exchange_leads_back_to_a_queue() -> None:
    items = list(declarations(TOPOLOGY))
    exchanges = {item.name for item in items if isinstance(item, Exchange)}
    bound = {(item.exchange, item.routing_key) for item in items if isinstance(item, Binding)}
    for name, given_arguments in arguments(TOPOLOGY).items():
        target = given_arguments.get("x-dead-letter-exchange")
        assert target is None or target in exchanges
        if "x-dead-letter-routing-key" in given_arguments:
            assert (target, name) in bound
    assert {(TOPOLOGY.return_exchange, queue.name) for queue in TOPOLOGY.stage_queues} <= bound


def test_a_rung_holds_its_messages_for_its_delay_and_sends_them_back_under_their_own_key() -> None:
    assert arguments(TOPOLOGY)["eai.delay.5"] == {
        "x-queue-type": "quorum",
        "x-max-length": 1_000_000,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "eai_agent_exchange.retry.return",
        "x-dead-letter-strategy": "at-least-once",
        "x-message-ttl": 5000,
    }


def test_no_queue_drops_what_it_cannot_hold() -> None:
    assert {given_arguments["x-overflow"] for given_arguments in arguments(TOPOLOGY).values()} == {"reject-publish"}


def test_looking_at_dead_letters_does_not_use_them_up() -> None:
    limits = {name: given_arguments.get("x-delivery-limit") for name, given_arguments in arguments(TOPOLOGY).items()}
    assert (limits["eai.formatter"], limits["eai.formatter.dlq"]) == (50, 2**31 - 1)


def test_classic_queues_are_asked_for_nothing_that_only_quorum_queues_have() -> None:
    classic = arguments(replace(TOPOLOGY, queue_type="classic"))
    asked = {name for given_arguments in classic.values() for name in given_arguments}
    assert asked.isdisjoint({"x-delivery-limit", "x-dead-letter-strategy"})
