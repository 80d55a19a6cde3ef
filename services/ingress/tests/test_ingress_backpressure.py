"""When the door is closed, for whom, and when it opens again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from eai_common.broker import BrokerUnavailable
from eai_common.messages import MessageType
from eai_common.telemetry import Metrics
from eai_common.topology import Topology
from eai_ingress.backpressure import Backpressure, Overloaded


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
def backpressure(broker: FakeDepths) -> Backpressure:
    return Backpressure(broker, Topology(), limit=100, metrics=Metrics())


def is_open(backpressure: Backpressure) -> tuple[bool, bool]:
    """For texts, and for recordings."""
    found = []
    kinds: tuple[MessageType, ...] = ("text", "audio")
    for kind in kinds:
        try:
            backpressure.check(kind)
            found.append(True)
        except Overloaded:
            found.append(False)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("queue", "open_for"),
    [("transcriber", (True, False)), ("agent-router", (False, False)), ("formatter", (False, False))],
)
async def test_a_full_queue_closes_the_door_for_what_would_go_through_it(
    broker: FakeDepths, backpressure: Backpressure, queue: str, open_for: tuple[bool, bool]
) -> None:
    broker.depths[f"eai.{queue}"] = 100
    await backpressure.refresh()
    assert is_open(backpressure) == open_for


async def test_the_door_opens_again_well_below_the_limit(broker: FakeDepths, backpressure: Backpressure) -> None:
    seen = []
    for depth in (99, 100, 99, 81, 80, 99):
        broker.depths["eai.agent-router"] = depth
        await backpressure.refresh()
        seen.append(is_open(backpressure)[0])
    assert seen == [True, False, False, False, True, True]


async def test_a_broker_that_was_lost_a_moment_ago_is_left_to_the_publisher(
    broker: FakeDepths, backpressure: Backpressure
) -> None:
    await backpressure.refresh()
    broker.is_ready = False
    assert is_open(backpressure) == (True, True)


async def test_a_broker_that_stays_away_closes_the_door_until_it_is_back(
    broker: FakeDepths, backpressure: Backpressure
) -> None:
    broker.is_ready = False
    await backpressure.refresh()
    closed = is_open(backpressure)
    broker.is_ready = True
    assert (closed, is_open(backpressure)) == ((False, False), (True, True))


async def test_what_waits_before_a_message_is_what_stands_in_all_its_queues(
    broker: FakeDepths, backpressure: Backpressure
) -> None:
    broker.depths.update({"eai.transcriber": 1, "eai.agent-router": 10, "eai.formatter": 5, "eai.callbacks": 1000})
    await backpressure.refresh()
    assert backpressure.waiting() == {"text": 15, "audio": 16}
