"""When the door is closed, for whom, and when it opens again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from eai_common.broker import BrokerUnavailable
from eai_common.messages import MessageType
from eai_common.telemetry import Metrics
from eai_common.topology import Topology
from eai_ingress.pressure import Overloaded, Pressure


@dataclass
class FakeDepths:
    """A broker's queues, as a test says."""

    depths: dict[str, int] = field(default_factory=dict)
    is_ready: bool = True

    async def depth(self, queue: str) -> int:
        if not self.is_ready:
            raise BrokerUnavailable("down")
        return self.depths.get(queue, 0)


@pytest.fixture()
def broker() -> FakeDepths:
    return FakeDepths()


@pytest.fixture()
def pressure(broker: FakeDepths) -> Pressure:
    return Pressure(broker, Topology(), limit=100, metrics=Metrics())


def is_open(pressure: Pressure) -> tuple[bool, bool]:
    """For texts, and for recordings."""
    found = []
    kinds: tuple[MessageType, ...] = ("text", "audio")
    for kind in kinds:
        try:
            pressure.check(kind)
            found.append(True)
        except Overloaded:
            found.append(False)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("queue", "open_for"),
    [("transcriber", (True, False)), ("agent-router", (False, False)), ("formatter", (False, False))],
)
async def test_a_full_queue_closes_the_door_for_what_would_go_through_it(
    broker: FakeDepths, pressure: Pressure, queue: str, open_for: tuple[bool, bool]
) -> None:
    broker.depths[f"eai.{queue}"] = 100
    await pressure.look()
    assert is_open(pressure) == open_for


async def test_the_door_opens_again_well_below_the_limit(broker: FakeDepths, pressure: Pressure) -> None:
    seen = []
    for depth in (99, 100, 99, 81, 80, 99):
        broker.depths["eai.agent-router"] = depth
        await pressure.look()
        seen.append(is_open(pressure)[0])
    assert seen == [True, False, False, False, True, True]


async def test_a_broker_that_was_lost_a_moment_ago_is_left_to_the_publisher(
    broker: FakeDepths, pressure: Pressure
) -> None:
    await pressure.look()
    broker.is_ready = False
    assert is_open(pressure) == (True, True)


async def test_a_broker_that_stays_away_closes_the_door_until_it_is_back(
    broker: FakeDepths, pressure: Pressure
) -> None:
    broker.is_ready = False
    await pressure.look()
    closed = is_open(pressure)
    broker.is_ready = True
    assert (closed, is_open(pressure)) == ((False, False), (True, True))


async def test_what_waits_before_a_message_is_what_stands_in_all_its_queues(
    broker: FakeDepths, pressure: Pressure
) -> None:
    broker.depths.update({"eai.transcriber": 1, "eai.agent-router": 10, "eai.formatter": 5, "eai.callbacks": 1000})
    await pressure.look()
    assert pressure.waiting() == {"text": 15, "audio": 16}
