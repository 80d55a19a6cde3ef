"""Callbacks from the queue to a real receiver on loopback: what arrives, when, how often, and what is left over."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from standardwebhooks import WebhookVerificationError

from eai_common.broker import Outgoing
from eai_common.broker.headers import DEAD_LETTER_ERROR_CODE
from eai_common.broker.memory import MemoryBroker, Message
from eai_common.guards import BreakerRules
from eai_common.ids import Ids
from eai_common.messages import TaskCompleted, encode
from eai_common.outbound import GuardedClient
from eai_common.retry import Schedule
from eai_common.settings import BrokerSettings, ProcessSettings, TaskSettings, TelemetrySettings, WorkerSettings
from eai_common.stage import StageResources, run_stage
from eai_common.store import RedisClient, TaskStatus, TaskStore, open_memory_redis
from eai_common.telemetry import Metrics, open_tracing
from eai_common.testing import RANDOM, LoopClock, eventually
from eai_common.topology import Topology
from eai_formatter.callbacks import CallbackSettings, build_callback_policy, build_callback_stage
from eai_formatter.callbacks.hosts import HostRules
from eai_formatter.callbacks.testing import Receiver, Reply

pytestmark = pytest.mark.virtual_time

QUEUE = "eai.callbacks"
DEAD = "eai.callbacks.dlq"
STEP = timedelta(seconds=0.05)
LONG = timedelta(seconds=1)
TOPOLOGY = Topology(ladder=(STEP, LONG, timedelta(seconds=5)))
SOON = Schedule((STEP, STEP, STEP))
HASTY = HostRules(4, BreakerRules(failures_to_open=100))


def a_secret(fill: str) -> str:
    return f"whsec_{base64.b64encode(fill.encode() * 32).decode()}"


OLD, NEW = a_secret("o"), a_secret("n")


@dataclass
class World:
    """One broker and one Redis, on which replicas deliver callbacks."""

    broker: MemoryBroker
    redis: RedisClient
    parts: StageResources
    settings: CallbackSettings
    environment: str = "production"
    host_rules: HostRules = field(default_factory=lambda: HASTY)
    retry: Schedule = SOON

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[asyncio.Event]:
        """A running stage; setting the event, or leaving the context, stops it in good order."""
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(GuardedClient(build_callback_policy(self.settings)))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            parts = self.parts
            stage = build_callback_stage(
                self.settings,
                ProcessSettings.model_validate({"environment": self.environment}),
                parts.task_settings,
                parts,
                client,
                retry=self.retry,
                host_rules=self.host_rules,
            )
            stack.callback(stop.set)
            group.create_task(run_stage(stage, parts, stop))
            yield stop

    async def send(self, *events: TaskCompleted) -> None:
        for event in events:
            await self.broker.publish(
                Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp)
            )

    async def settled(self) -> None:
        """Return once nothing is queued, under way or waiting."""
        await eventually(
            lambda: not self.broker.contents(QUEUE) and self.broker.unsettled(QUEUE) == 0 and self.broker.waiting == 0,
            within_s=60,
        )

    async def dead_letter(self) -> Message:
        await eventually(lambda: len(self.broker.contents(DEAD)) >= 1)
        return self.broker.contents(DEAD)[0]

    async def status(self, event: TaskCompleted) -> TaskStatus:
        status = (await TaskStore(self.redis, self.parts.task_settings).read(event.message_id)).status
        assert status is not None
        return status

    def counted(self, status: str) -> float:
        labels = {"service": "callback", "status": status}
        return self.parts.metrics.registry.get_sample_value("external_api_calls_total", labels) or 0.0


@pytest.fixture()
async def world() -> AsyncIterator[World]:
    clock = LoopClock(datetime.now(UTC))  # the library that verifies a signature asks the system for the date
    async with MemoryBroker(TOPOLOGY, clock) as broker, open_memory_redis() as redis:
        parts = StageResources(
            broker=broker,
            redis=redis,
            clock=clock,
            random=RANDOM,
            ids=Ids(clock, RANDOM),
            metrics=Metrics(),
            tracing=open_tracing(TelemetrySettings(), service="test"),
            broker_settings=BrokerSettings(),
            worker_settings=WorkerSettings(checkpoint_lease=timedelta(seconds=0.3)),
            task_settings=TaskSettings(),
            process_settings=ProcessSettings(shutdown_grace=timedelta(seconds=2)),
        )
        yield World(broker, redis, parts, sandboxed())


def sandboxed(**fields: object) -> CallbackSettings:
    """Settings that let callbacks reach loopback."""
    return CallbackSettings.model_validate(
        {
            "secrets": SecretStr(NEW),
            "allow_http": True,
            "allowed_networks": "127.0.0.0/8",
            "timeout": timedelta(seconds=5),
            **fields,
        }
    )


def the_end(receiver: Receiver | None = None, **fields: object) -> TaskCompleted:
    """A message that was answered, and whose answer goes to the receiver."""
    message_id = Ids(LoopClock(), RANDOM).message_id()
    result = {
        "status": "completed",
        "content": "Olá! O posto abre às 8h.",
        "contents": ["Olá! O posto abre às 8h."],
        "thread_id": "+5521999990000",
        "processing_time_ms": 1250,
        "message_type": "text",
        "transcript": None,
        "metadata": {"pedido": 7},
        "data": {"messages": [], "agent_id": "user_+5521999990000", "processed_at": message_id, "status": "done"},
    }
    return TaskCompleted.model_validate(
        {
            "message_id": message_id,
            "user_number": "+5521999990000",
            "timestamp": datetime(2026, 1, 1, 10, 30, tzinfo=UTC),
            "status": "completed",
            "callback_url": receiver.url if receiver else None,
            "result": result,
            **fields,
        }
    )


# What arrives


async def test_a_result_arrives_signed_with_all_that_a_poll_would_have_said(world: World) -> None:
    async with Receiver() as receiver, world.replica():
        event = the_end(receiver)
        await world.send(event)
        await world.settled()
        assert receiver.received[0].verified(NEW) == {
            **event.result,
            "message_id": event.message_id,
            "error": None,
            "timestamp": "2026-01-01T10:30:01.250Z",
            "processed_at": event.message_id,
        }


async def test_a_failure_arrives_like_a_result(world: World) -> None:
    result = {
        "status": "failed",
        "error": "Audio transcription failed",
        "error_code": "TRANSCRIPTION_ERROR",
        "data": {},
    }
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(receiver, status="failed", result=result))
        await world.settled()
        got = receiver.received[0].verified(NEW)
        assert (got["status"], got["error"], got["error_code"]) == ("failed", result["error"], "TRANSCRIPTION_ERROR")


async def test_a_message_without_a_callback_url_is_acked(world: World) -> None:
    async with world.replica():
        await world.send(the_end())
        await world.settled()
        assert world.broker.contents(DEAD) == ()


async def test_while_secrets_rotate_receivers_of_both_verify(world: World) -> None:
    world.settings = sandboxed(secrets=SecretStr(f"{NEW}, {OLD}"))
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(receiver))
        await world.settled()
        request = receiver.received[0]
        assert request.verified(OLD) == request.verified(NEW)
        assert len(request.headers["webhook-signature"].split(" ")) == 2


async def test_a_stranger_does_not_verify(world: World) -> None:
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(receiver))
        await world.settled()
        with pytest.raises(WebhookVerificationError):
            receiver.received[0].verified(OLD)


async def test_without_a_secret_development_sends_unsigned(world: World) -> None:
    world.settings, world.environment = sandboxed(secrets=SecretStr("")), "development"
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(receiver))
        await world.settled()
        assert "webhook-signature" not in receiver.received[0].headers


@pytest.mark.parametrize("environment", ["staging", "production"])
async def test_without_a_secret_nothing_leaves_a_real_deployment(world: World, environment: str) -> None:
    world.settings, world.environment = sandboxed(secrets=SecretStr("")), environment
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(), the_end(receiver))
        assert (await world.dead_letter()).headers[DEAD_LETTER_ERROR_CODE] == "CALLBACK_UNSIGNED"
        await world.settled()
        assert (receiver.received, len(world.broker.contents(DEAD))) == ([], 1)


# Trying again


@pytest.mark.parametrize("status", [500, 503, 404, 400, 401, 302, 429])
async def test_whatever_is_no_2xx_is_tried_again_under_the_same_id_with_the_same_body(
    world: World, status: int
) -> None:
    async with Receiver(Reply(status), Reply(status)) as receiver, world.replica():
        event = the_end(receiver)
        await world.send(event)
        await world.settled()
        assert receiver.ids == [event.message_id] * 3
        assert len({request.body for request in receiver.received}) == 1
        assert receiver.received[2].verified(NEW)["message_id"] == event.message_id


async def test_after_the_last_try_it_is_a_dead_letter_with_its_history(world: World) -> None:
    async with Receiver(usually=Reply(500)) as receiver, world.replica():
        await world.send(the_end(receiver))
        dead = await world.dead_letter()
        assert dead.headers[DEAD_LETTER_ERROR_CODE] == "CALLBACK_FAILED"
        assert [entry["attempt"] for entry in json.loads(str(dead.headers["x-eai-errors"]))] == [1, 2, 3, 4]
        assert len(receiver.received) == 4


async def test_a_receiver_that_is_down_for_a_while_gets_it_once_it_is_back(world: World) -> None:
    world.retry = Schedule((STEP,) * 50)
    async with Receiver() as receiver, world.replica():
        await receiver.stop()
        event = the_end(receiver)
        await world.send(event)
        await eventually(lambda: world.counted("unreachable") >= 2)
        await receiver.start()
        await world.settled()
        assert (receiver.ids, world.counted("delivered")) == ([event.message_id], 1)


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again(world: World) -> None:
    world.settings = sandboxed(timeout=timedelta(seconds=0.2))
    async with Receiver(Reply(hangs=True)) as receiver, world.replica():
        await world.send(the_end(receiver))
        await world.settled()
        assert (len(receiver.received), world.counted("timeout"), world.counted("delivered")) == (2, 1, 1)


async def test_410_ends_it_at_once_without_a_dead_letter(world: World) -> None:
    async with Receiver(Reply(410)) as receiver, world.replica():
        event = the_end(receiver)
        await world.send(event)
        await world.settled()
        assert (len(receiver.received), world.broker.contents(DEAD)) == (1, ())
        assert (await world.status(event)).fields["callback:state"] == "gone"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wish_to_wait_is_granted_to_this_delivery_and_the_hosts_others(world: World, status: int) -> None:
    async with Receiver(Reply(status, {"Retry-After": "1"})) as receiver, world.replica():
        first, second = the_end(receiver), the_end(receiver)
        await world.send(first)
        await eventually(lambda: len(receiver.received) == 1 and world.broker.waiting == 1)
        await world.send(second)
        await world.settled()
        asked, *others = receiver.received
        assert sorted(request.webhook_id for request in others) == sorted([first.message_id, second.message_id])
        assert min(request.at_s for request in others) - asked.at_s >= 0.95


async def test_a_second_delivery_of_what_was_delivered_sends_nothing(world: World) -> None:
    async with Receiver() as receiver, world.replica():
        event = the_end(receiver)
        await world.send(event)
        await world.settled()
        await world.send(event)
        await world.settled()
        assert receiver.ids == [event.message_id]


# Where it may go


async def test_a_redirect_inside_is_not_followed(world: World) -> None:
    async with Receiver() as inside, Receiver(
        usually=Reply(307, {"Location": inside.url})
    ) as receiver, world.replica():
        await world.send(the_end(receiver))
        await world.dead_letter()
        assert (len(receiver.received), inside.received, world.counted("3xx")) == (4, [], 4)


@pytest.mark.parametrize("settings", [{"allowed_networks": ""}, {"allow_http": False}], ids=["inside", "without TLS"])
async def test_a_url_that_leads_where_callbacks_may_not_go_is_a_dead_letter_at_once(
    world: World, settings: dict[str, object]
) -> None:
    world.settings = sandboxed(**settings)
    async with Receiver() as receiver, world.replica():
        await world.send(the_end(receiver))
        assert (await world.dead_letter()).headers[DEAD_LETTER_ERROR_CODE] == "OUTBOUND_URL_REFUSED"
        assert receiver.received == []


# Others are not delayed


async def test_a_host_that_hangs_delays_no_other(world: World) -> None:
    world.settings = sandboxed(max_parallel=4, max_parallel_per_host=2)
    world.host_rules = HostRules(2)
    async with Receiver(usually=Reply(hangs=True)) as slow, Receiver() as quick, world.replica():
        await world.send(*(the_end(slow) for _ in range(20)))
        await eventually(lambda: len(slow.received) == 2)
        await world.send(*(the_end(quick) for _ in range(8)))
        await eventually(lambda: len(quick.received) == 8, within_s=3)
        assert slow.most_under_way == 2
        await slow.stop()
        slow.usually = Reply()
        await slow.start()
        await eventually(lambda: len(set(slow.ids)) == 20, within_s=10)


async def test_a_host_gets_no_more_than_its_share_and_a_burst_still_arrives_whole(world: World) -> None:
    world.host_rules = HostRules(3)
    async with Receiver(usually=Reply(after=timedelta(seconds=0.02))) as receiver, world.replica():
        events = [the_end(receiver) for _ in range(40)]
        await world.send(*events)
        await world.settled()
        assert sorted(receiver.ids) == sorted(event.message_id for event in events)
        assert receiver.most_under_way <= 3


async def test_a_host_that_is_down_is_left_alone_and_the_wait_costs_no_attempt(world: World) -> None:
    world.host_rules = HostRules(breaker=BreakerRules(failures_to_open=3, open_for=LONG / 2, probes=1, probe_wait=STEP))
    async with Receiver(*[Reply(500)] * 3) as receiver, world.replica():
        await world.send(*(the_end(receiver) for _ in range(10)))
        await eventually(lambda: len(receiver.received) >= 3)
        await world.settled()
        assert (world.counted("5xx"), world.counted("delivered")) == (3, 10)
        assert world.broker.contents(DEAD) == ()


# What is noted


async def test_every_try_is_noted_in_the_tasks_status(world: World) -> None:
    async with Receiver(Reply(500), Reply(404)) as receiver, world.replica():
        event = the_end(receiver)
        await world.send(event)
        await world.settled()
        fields = (await world.status(event)).fields
        assert [fields[f"callback:{number}"].split(" ")[1] for number in (1, 2, 3)] == ["500", "404", "204"]
        assert fields["callback:state"] == "delivered"
        assert fields["callback:last_error"].startswith("CALLBACK_FAILED (next try in ")


async def test_a_late_try_does_not_bring_a_finished_task_back_into_processing(world: World) -> None:
    async with Receiver(Reply(500)) as receiver, world.replica():
        event = the_end(receiver)  # nothing is left of its status, as hours after the end
        await world.send(event)
        await world.settled()
        status = await world.status(event)
        assert (status.status, status.stage) == ("completed", "done")


# Death and shutdown


async def test_a_delivery_cut_off_by_a_dying_replica_is_made_by_another_under_the_same_id(world: World) -> None:
    async with Receiver(Reply(hangs=True)) as receiver:
        event = the_end(receiver)

        async def dies() -> None:
            async with world.replica():
                await asyncio.Event().wait()

        dying = asyncio.create_task(dies())
        await world.send(event)
        await eventually(lambda: len(receiver.received) == 1)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        async with world.replica():
            await world.settled()
        assert receiver.ids == [event.message_id] * 2


async def test_on_shutdown_a_delivery_under_way_is_finished(world: World) -> None:
    async with Receiver(Reply(after=timedelta(seconds=0.3))) as receiver:
        async with world.replica():
            await world.send(the_end(receiver))
            await eventually(lambda: len(receiver.received) == 1)
        assert (world.counted("delivered"), world.broker.contents(QUEUE)) == (1, ())
