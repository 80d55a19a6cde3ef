"""All five services in one process, on shared parts and one port."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random, SystemRandom

import uvloop
from starlette.routing import BaseRoute

from eai_cli.services import DEFINITIONS
from eai_common.broker import Broker
from eai_common.broker.memory import MemoryBroker
from eai_common.broker.rabbitmq import open_rabbitmq
from eai_common.clock import Clock, SystemClock
from eai_common.health import bind_pool_gauges, health_of, probe_routes
from eai_common.http import HttpParts, api_docs_routes, bound_socket, build_app, open_protection
from eai_common.ids import Ids
from eai_common.service import (
    CommonSettings,
    Parts,
    Running,
    rabbit_options,
    reported,
    run_services,
    stop_on_signals,
)
from eai_common.settings import SettingsError, load
from eai_common.store import RedisClient, open_memory_redis, open_redis, open_wakeups
from eai_common.telemetry import Metrics, configure_logging, open_tracing

__all__ = ["run_all"]

_NAME = "up"


def run_all(environ: Mapping[str, str], *, uses_sandbox: bool) -> int:
    """Run until a signal; gives the exit code: 0 drained, 1 failed, 2 wrong settings."""
    mistakes: list[str] = []
    settings: list[CommonSettings] = []
    for definition in DEFINITIONS:
        try:
            settings.append(load(definition.settings, environ))
        except SettingsError as error:
            mistakes += [line for line in error.mistakes if line not in mistakes]
    if mistakes:
        sys.stderr.write("eai up: wrong settings\n" + "".join(f"{line}\n" for line in mistakes))
        return 2
    configure_logging(settings[0].telemetry, service=_NAME)
    return reported(lambda: uvloop.run(_serve(settings, uses_sandbox=uses_sandbox)))


async def _serve(settings: list[CommonSettings], *, uses_sandbox: bool) -> None:
    stop = stop_on_signals()
    common = settings[0]
    listener = bound_socket(common.http.host, common.http.port)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        shared = await stack.enter_async_context(_open_parts(common))
        routes: list[BaseRoute] = []
        running: list[Running] = []
        for definition, own in zip(DEFINITIONS, settings, strict=True):
            service = await stack.enter_async_context(definition.build(own, shared))
            running.append(Running(service, own, shared))
            routes += service.routes
        health = health_of(_NAME, frozenset({"rabbitmq", "redis"}), shared, common.health, common.broker.topology)
        bind_pool_gauges(shared.redis, shared.metrics)
        metrics_path = common.telemetry.metrics_path if common.telemetry.prometheus_enabled else None
        protection = await stack.enter_async_context(
            open_protection(common, redis=shared.redis, clock=shared.clock, metrics=shared.metrics)
        )
        protection.access.warn_if_open()
        docs = api_docs_routes(
            [operation for one in running for operation in one.service.operations],
            title="EAI gateway",
            has_auth=not protection.access.is_open,
        )
        app = build_app(
            [*routes, *docs, *probe_routes(health, shared.metrics, metrics_path)],
            HttpParts(shared.ids, shared.metrics, shared.tracing, common.http, common.telemetry, protection),
        )
        host, port = listener.getsockname()[:2]
        url = f"http://{host}:{port}"
        await run_services(
            running, app, listener, stop, health, on_started=lambda: _say_ready(url, common, uses_sandbox=uses_sandbox)
        )


@asynccontextmanager
async def _open_parts(common: CommonSettings) -> AsyncIterator[Parts]:
    clock, random = SystemClock(), SystemRandom()
    tracing = open_tracing(common.telemetry, service=_NAME)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.close)
        redis = await stack.enter_async_context(_open_redis(common))
        yield Parts(
            redis=redis,
            clock=clock,
            random=random,
            ids=Ids(clock, random, common.tasks.message_id_key.get_secret_value().encode()),
            metrics=Metrics(),
            tracing=tracing,
            opened_broker=await stack.enter_async_context(_open_broker(common, clock, random)),
            opened_wakeups=await stack.enter_async_context(open_wakeups(redis)),
        )


@asynccontextmanager
async def _open_broker(common: CommonSettings, clock: Clock, random: Random) -> AsyncIterator[Broker]:
    if common.broker.url.get_secret_value():
        async with open_rabbitmq(rabbit_options(common.broker, connection_name=_NAME), clock, random) as broker:
            yield broker
    else:
        async with MemoryBroker(common.broker.topology, clock) as memory:
            yield memory


@asynccontextmanager
async def _open_redis(common: CommonSettings) -> AsyncIterator[RedisClient]:
    async with open_redis(common.redis) if common.redis.url.get_secret_value() else open_memory_redis() as redis:
        yield redis


def _say_ready(url: str, common: CommonSettings, *, uses_sandbox: bool) -> None:
    broker = "RabbitMQ" if common.broker.url.get_secret_value() else "an in-memory broker"
    redis = "Redis" if common.redis.url.get_secret_value() else "an in-process Redis"
    agents = "the sandbox" if uses_sandbox else "Google"
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"  on {broker}, {redis} and {agents}; Ctrl-C drains and stops. Try, in another terminal:\n"
        '    ./eai send "Qual o horário do posto de saúde?"\n'
        "    ./eai chat\n"
    )
