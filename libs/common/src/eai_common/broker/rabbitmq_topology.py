"""Declares the topology on RabbitMQ, and reports where the broker's differs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from aiormq import ChannelPreconditionFailed, Connection
from aiormq.abc import AbstractChannel

from eai_common.broker import TopologyMismatch
from eai_common.broker.rabbitmq_link import on_wire
from eai_common.topology import Topology

__all__ = ["Binding", "Exchange", "Queue", "apply", "declarations"]

Arguments: TypeAlias = dict[str, str | int]

_NO_LIMIT = 2**31 - 1  # otherwise RabbitMQ 4 drops a dead letter that was read twenty times
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(.+?)' for (queue|exchange) '(.+?)' .*?: received (.*) but current is (.*)"
)
_VALUE = re.compile(r"the value '(.*)' of type '\w+'|'(.*)'")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Binding:
    """Which messages of an exchange go into a queue."""

    queue: str
    exchange: str
    routing_key: str


def declarations(topology: Topology) -> Iterator[Exchange | Queue | Binding]:
    """Everything to declare; queues and exchanges come before their bindings."""
    yield Exchange(topology.exchange, "topic")
    yield Exchange(topology.dead_letter_exchange, "direct")
    yield Exchange(topology.return_exchange, "direct")
    for stage_queue in topology.stage_queues:
        dead_letters = stage_queue.dead_letter_queue
        yield Queue(dead_letters, _queue_arguments(topology, _NO_LIMIT))
        yield Binding(dead_letters, topology.dead_letter_exchange, stage_queue.name)
        dead_lettering = _dead_lettering(topology, topology.dead_letter_exchange, stage_queue.name)
        yield Queue(stage_queue.name, _queue_arguments(topology, topology.delivery_limit) | dead_lettering)
        yield Binding(stage_queue.name, topology.return_exchange, stage_queue.name)
        for routing_key in stage_queue.routing_keys:
            yield Binding(stage_queue.name, topology.exchange, routing_key)
    for rung in topology.rungs:
        waiting: Arguments = {"x-message-ttl": round(rung.delay.total_seconds() * 1000)}
        yield Exchange(rung.exchange, "fanout")
        yield Queue(
            rung.queue, _queue_arguments(topology) | _dead_lettering(topology, topology.return_exchange) | waiting
        )
        yield Binding(rung.queue, rung.exchange, "")


async def apply(topology: Topology, connection: Connection) -> None:
    """Declare what is missing. Raises TopologyMismatch with everything that exists with other arguments."""
    found: list[str] = []
    channel: AbstractChannel | None = None
    for declaration in declarations(topology):
        if channel is None:
            channel = await on_wire(connection.channel(publisher_confirms=False))
        try:
            await on_wire(_declare(channel, declaration))
        except ChannelPreconditionFailed as error:  # the broker closes the channel with it
            found.append(_describe_difference(str(error)))
            channel = None
    if channel is not None:
        await on_wire(channel.close())
    if found:
        raise TopologyMismatch(
            "; ".join(found) + ". Nothing was changed. A queue's arguments cannot change in place: drain the queue and "
            "delete it, or set another RABBITMQ_QUEUE_PREFIX and RABBITMQ_EXCHANGE."
        )


async def _declare(channel: AbstractChannel, declaration: Exchange | Queue | Binding) -> None:
    match declaration:
        case Exchange(name, kind):
            await channel.exchange_declare(name, exchange_type=kind, durable=True)
        case Queue(name, arguments):
            await channel.queue_declare(name, durable=True, arguments=dict(arguments))
        case Binding(queue, exchange, routing_key):
            await channel.queue_bind(queue, exchange, routing_key)


def _queue_arguments(topology: Topology, delivery_limit: int | None = None) -> Arguments:
    """The arguments of every queue. A full queue refuses a message and drops none."""
    arguments: Arguments = {
        "x-queue-type": topology.queue_type,
        "x-max-length": topology.max_length,
        "x-overflow": "reject-publish",
    }
    if delivery_limit is not None and topology.queue_type == "quorum":
        arguments["x-delivery-limit"] = delivery_limit
    return arguments


def _dead_lettering(topology: Topology, exchange: str, routing_key: str | None = None) -> Arguments:
    """Without `routing_key`, a message keeps its own."""
    arguments: Arguments = {"x-dead-letter-exchange": exchange}
    if routing_key is not None:
        arguments["x-dead-letter-routing-key"] = routing_key
    if topology.queue_type == "quorum":
        # Needs reject-publish; without both, a broker that dies between the two queues loses the message
        # (source: RabbitMQ, "Quorum Queues", at-least-once dead lettering). Classic queues have no such strategy.
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments


def _describe_difference(reply_text: str) -> str:
    """What differs, in our words; in the broker's own if its reply text was cut off, at 255 bytes."""
    matched = _INEQUIVALENT.search(reply_text)
    if matched is None:
        return reply_text
    argument, kind, name, expected, found = matched.groups()
    return f"{kind} {name!r} has {argument} {_value(found)}, this release expects {_value(expected)}"


def _value(text: str) -> str:
    matched = _VALUE.fullmatch(text)
    return (matched[1] or matched[2]) if matched else text
