"""Runs a service: reads its settings, opens what it stands on, consumes and serves until SIGTERM, then drains.

A service is a definition: its settings, and a `build` that turns open parts into stages and routes. `python -m
eai_<stage>` runs one with real RabbitMQ and Redis; `./eai up` runs all five in one process on shared parts.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Generic, TypeVar

import uvloop
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from eai_common.broker import Broker, TopologyMismatch
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.clock import Clock, SystemClock
from eai_common.errors import StageError
from eai_common.health import (
    Health,
    HealthSettings,
    Need,
    bind_pool_gauges,
    health_of,
    health_reporter,
    probe_routes,
    record_broker_gauges,
)
from eai_common.http import HttpParts, api_docs_routes, bound_socket, build_app, open_protection, serve
from eai_common.http.openapi import Operation
from eai_common.http.protocol import RequestLimits
from eai_common.ids import Ids
from eai_common.settings import (
    BrokerSettings,
    HttpSettings,
    JwtSettings,
    ProcessSettings,
    ProtectionSettings,
    RedisSettings,
    SettingsError,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
    load,
)
from eai_common.stage import Stage, StageResources, run_stage
from eai_common.store import RedisClient, Wakeups, open_redis, open_wakeups
from eai_common.telemetry import Metrics, Tracing, configure_logging, get_logger, open_tracing

__all__ = [
    "CommonSettings",
    "Parts",
    "Running",
    "Service",
    "ServiceDefinition",
    "load_settings",
    "main",
    "rabbit_options",
    "reported",
    "run_services",
    "stop_on_signals",
]

log = get_logger("eai.service")

_REPORTED_SERVICES = ("ingress", "transcriber", "agent-router", "formatter")


@dataclass(frozen=True)
class CommonSettings:
    """The groups that every service reads."""

    process: ProcessSettings
    broker: BrokerSettings
    redis: RedisSettings
    tasks: TaskSettings
    worker: WorkerSettings
    http: HttpSettings
    jwt: JwtSettings
    protection: ProtectionSettings
    health: HealthSettings
    telemetry: TelemetrySettings


SettingsT = TypeVar("SettingsT", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service stands on. The broker is what wiring made it: RabbitMQ, or memory in `./eai up`."""

    redis: RedisClient
    clock: Clock
    random: Random
    ids: Ids
    metrics: Metrics
    tracing: Tracing
    opened_broker: Broker | None = None
    opened_wakeups: Wakeups | None = None

    @property
    def broker(self) -> Broker:
        if self.opened_broker is None:
            raise AssertionError("a service that uses the broker must name it in its definition's `needs`")
        return self.opened_broker

    @property
    def wakeups(self) -> Wakeups:
        """One for the whole process, whatever runs in it. The wiring ends all waiting when the drain begins."""
        if self.opened_wakeups is None:
            raise AssertionError("opened by the wiring; a test of a service that waits opens its own")
        return self.opened_wakeups


@dataclass(frozen=True, slots=True)
class Service:
    """What `build` makes of the parts."""

    stages: Sequence[Stage] = ()
    routes: Sequence[BaseRoute] = ()
    operations: Sequence[Operation] = ()  # the routes that clients ask, described


@dataclass(frozen=True, slots=True)
class ServiceDefinition(Generic[SettingsT]):
    """A service, before anything is opened.

    `uses` is what it must be configured with; `needs` is the part of it without which it is not ready. One that
    `serves_clients` must have tokens in production. One that `reports_all_services` shows all health reports.
    """

    name: str
    settings: type[SettingsT]
    build: Callable[[SettingsT, Parts], AbstractAsyncContextManager[Service]]
    uses: frozenset[Need] = frozenset({"rabbitmq", "redis"})
    needs: frozenset[Need] = frozenset({"rabbitmq", "redis"})
    serves_clients: bool = False
    reports_all_services: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A built service with what its stages need."""

    service: Service
    settings: CommonSettings
    parts: Parts


def main(definition: ServiceDefinition[SettingsT]) -> int:
    """Run the service as this process. Returns the exit code: 0 drained, 1 failed, 2 wrong settings."""
    try:
        settings = load_settings(definition, os.environ)
    except SettingsError as error:
        print(f"{definition.name}: wrong settings\n{error}", file=sys.stderr)  # noqa: T201  # before there is a log
        return 2
    configure_logging(settings.telemetry, service=definition.name)
    return reported(lambda: uvloop.run(_run_alone(definition, settings)))


def reported(run: Callable[[], None]) -> int:
    """Run to the end; gives the exit code: 0, or 1 (2 for settings) with a line for each cause when it failed.

    What is none of the known causes is a bug, and goes on with its traceback.
    """
    code = 0
    try:
        run()
    except* SettingsError as errors:
        code = 2
        for wrong in _leaves(errors):
            log.error("settings_refused", error=str(wrong))
    except* (StageError, TopologyMismatch, OSError) as errors:
        code = code or 1
        for cause in _leaves(errors):
            log.error("service_failed", error=str(cause), error_type=type(cause).__name__)
    return code


async def run_services(
    running: Sequence[Running],
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    health: Health,
    *,
    on_started: Callable[[], None],
) -> None:
    """Run the services' stages, and one HTTP server, in this process until `stop`; then drain.

    A stage or server that dies takes the others down: a restarted pod is better than a half-dead one.
    """
    grace_s = max(one.settings.process.shutdown_grace.total_seconds() for one in running)
    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(_watch(one, stop), name="watch-broker") for one in running if one.service.stages]
        if health.dependencies is not None:
            one = running[0]
            reporter = health_reporter(health.service, health.dependencies, one.parts, one.settings.health)
            watchers.append(group.create_task(reporter.run(), name="report-health"))
        group.create_task(
            serve(app, listener, stop, grace_s=grace_s, limits=_limits(running[0].settings.http)), name="http"
        )
        for one in running:
            for stage in one.service.stages:
                group.create_task(run_stage(stage, _stage_parts(one), stop), name=f"stage/{stage.name}")
        health.is_started = True
        listener.listen()  # before anyone is told; the server's task takes the connections as soon as it runs
        on_started()
        await stop.wait()
        health.is_stopping = True
        for one in running:
            if one.parts.opened_wakeups is not None:
                one.parts.opened_wakeups.end_waiting()
        for watcher in watchers:
            watcher.cancel()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _run_alone(definition: ServiceDefinition[SettingsT], settings: SettingsT) -> None:
    stop = stop_on_signals()
    listener = bound_socket(settings.http.host, settings.http.port)
    _leave_modules_to_rest()
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        parts = await stack.enter_async_context(_open_parts(definition, settings))
        service = await stack.enter_async_context(definition.build(settings, parts))
        health = health_of(
            definition.name,
            definition.needs,
            parts,
            settings.health,
            settings.broker.topology,
            reported_services=_REPORTED_SERVICES if definition.reports_all_services else (),
        )
        bind_pool_gauges(parts.redis, parts.metrics)
        metrics_path = settings.telemetry.metrics_path if settings.telemetry.prometheus_enabled else None
        protection = await stack.enter_async_context(
            open_protection(settings, redis=parts.redis, clock=parts.clock, metrics=parts.metrics)
        )
        if definition.serves_clients:
            protection.access.warn_if_open()
        docs = api_docs_routes(
            service.operations, title=f"EAI gateway: {definition.name}", has_auth=not protection.access.is_open
        )
        app = build_app(
            [*service.routes, *docs, *probe_routes(health, parts.metrics, metrics_path)],
            HttpParts(parts.ids, parts.metrics, parts.tracing, settings.http, settings.telemetry, protection),
        )
        host, port = listener.getsockname()[:2]
        await run_services(
            [Running(service, settings, parts)],
            app,
            listener,
            stop,
            health,
            on_started=lambda: log.info("service_started", address=f"{host}:{port}"),
        )
    log.info("service_stopped")


def _leave_modules_to_rest() -> None:
    """What was imported stays for good: the garbage collector need not go through it again and again.

    With the thresholds that follow it costs a tenth less processor time for each request (benchmarks/ingress.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _limits(settings: HttpSettings) -> RequestLimits:
    return RequestLimits(head_timeout=settings.request_head_timeout, body_timeout=settings.upload_timeout_seconds)


@asynccontextmanager
async def _open_parts(definition: ServiceDefinition[SettingsT], settings: SettingsT) -> AsyncIterator[Parts]:
    clock, random = SystemClock(), SystemRandom()
    tracing = open_tracing(settings.telemetry, service=definition.name)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.close)
        broker = None
        if "rabbitmq" in definition.uses:
            options = rabbit_options(settings.broker, connection_name=definition.name)
            broker = await stack.enter_async_context(open_rabbitmq(options, clock, random))
        redis = await stack.enter_async_context(open_redis(settings.redis))
        yield Parts(
            redis=redis,
            clock=clock,
            random=random,
            ids=Ids(clock, random, settings.tasks.message_id_key.get_secret_value().encode()),
            metrics=Metrics(),
            tracing=tracing,
            opened_broker=broker,
            opened_wakeups=await stack.enter_async_context(open_wakeups(redis)),
        )


def rabbit_options(settings: BrokerSettings, *, connection_name: str) -> RabbitSettings:
    """The adapter's options from the settings."""
    return RabbitSettings(
        url=settings.url.get_secret_value(),
        topology=settings.topology,
        publish_timeout=settings.publish_timeout,
        connect_timeout=settings.connect_timeout,
        connection_name=connection_name,
    )


def load_settings(definition: ServiceDefinition[SettingsT], environ: Mapping[str, str]) -> SettingsT:
    """The settings, or one SettingsError with all mistakes: what cannot be read, and what a process must have."""
    mistakes: list[str] = []
    try:
        _require_real_parts(definition, load(CommonSettings, environ))
    except SettingsError as error:
        mistakes += error.mistakes
    try:
        settings = load(definition.settings, environ)
    except SettingsError as error:
        mistakes += [line for line in error.mistakes if line not in mistakes]
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _require_real_parts(definition: ServiceDefinition[SettingsT], settings: CommonSettings) -> None:
    mistakes = []
    if "rabbitmq" in definition.uses and not settings.broker.url.get_secret_value():
        mistakes.append("RABBITMQ_URL: is required, takes an address such as amqp://user:password@host:5672/")
    if "redis" in definition.uses and not settings.redis.url.get_secret_value():
        mistakes.append("REDIS_URL: is required, takes an address such as redis://host:6379/0")
    if definition.serves_clients and settings.process.environment == "production":
        mistakes += _missing_credentials(settings)
    if mistakes:
        raise SettingsError(mistakes)


def _missing_credentials(settings: CommonSettings) -> list[str]:
    if settings.http.tokens or settings.jwt.is_used:
        return []
    return ["API_TOKEN: is required in production without JWTs, takes tokens separated by commas"]


def _stage_parts(one: Running) -> StageResources:
    parts, settings = one.parts, one.settings
    return StageResources(
        broker=parts.broker,
        redis=parts.redis,
        clock=parts.clock,
        random=parts.random,
        ids=parts.ids,
        metrics=parts.metrics,
        tracing=parts.tracing,
        broker_settings=settings.broker,
        worker_settings=settings.worker,
        task_settings=settings.tasks,
        process_settings=settings.process,
    )


async def _watch(one: Running, stop: asyncio.Event) -> None:
    names = {one.settings.broker.topology.queue_of(stage.name) for stage in one.service.stages}
    queues = [
        name
        for queue in one.settings.broker.topology.stage_queues
        if queue.name in names
        for name in (queue.name, queue.dead_letter_queue)
    ]
    await record_broker_gauges(one.parts.broker, queues, one.parts.metrics, stop)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
