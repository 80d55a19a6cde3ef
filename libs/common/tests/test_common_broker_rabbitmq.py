"""The RabbitMQ adapter against a real broker: the whole contract, and what can go wrong with a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest

from eai_common.broker import Broker
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.broker.rabbitmq_topology import Exchange, Queue, declarations
from eai_common.broker.testing import BrokerContract, OpenBroker
from eai_common.topology import Topology


async def delete(url: str, topology: Topology) -> None:
    """Leave nothing of the topology on the broker."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    for declaration in declarations(topology):
        match declaration:
            case Queue(name):
                await channel.queue_delete(name)
            case Exchange(name):
                await channel.exchange_delete(name)
    await connection.close()


@pytest.fixture()
def open_broker(rabbitmq_server: Any) -> OpenBroker:
    @asynccontextmanager
    async def opened(topology: Topology) -> AsyncIterator[Broker]:
        try:
            async with open_rabbitmq(RabbitSettings(rabbitmq_server.url, topology)) as broker:
                yield broker
        finally:
            await delete(rabbitmq_server.url, topology)

    return opened


class TestQuorumQueues(BrokerContract):
    pass
