"""Runs a process: consumes and serves until SIGTERM or SIGINT, then drains."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TypeVar

import uvloop

from eai_common.background import run_alongside
from eai_common.broker import TopologyMismatch
from eai_common.errors import StageError
from eai_common.health import build_health_reporter, record_broker_gauges
from eai_common.http import bind_socket, serve
from eai_common.http.protocol import RequestLimits
from eai_common.process.composition import Process, open_process
from eai_common.process.definition import BrokerResources, ConfiguredService, Resources, ServiceDefinition
from eai_common.process.loading import load_settings
from eai_common.process.resources import REAL, Clients, open_resources
from eai_common.process.settings import CommonSettings
from eai_common.settings import HttpSettings, SettingsError
from eai_common.stage import run_stage
from eai_common.telemetry import configure_logging, get_logger

__all__ = ["main", "run_process", "run_reporting_errors", "serve_until_signal"]

log = get_logger("eai.service")

SettingsT = TypeVar("SettingsT", bound=CommonSettings)
ResourcesT = TypeVar("ResourcesT", bound=Resources)


def main(definition: ServiceDefinition[SettingsT, ResourcesT]) -> int:
    """Run the service as this process. Returns the exit code: 0 drained, 1 failed, 2 wrong settings."""
    try:
        settings = load_settings(definition, os.environ)
    except SettingsError as error:
        print(f"{definition.name}: wrong settings\n{error}", file=sys.stderr)  # noqa: T201  # before there is a log
        return 2
    configure_logging(settings.telemetry, service=definition.name)
    _freeze_modules()

    def say_started(address: str) -> None:
        log.info("service_started", address=address)

    configured = [ConfiguredService(definition, settings)]
    return run_reporting_errors(
        lambda: uvloop.run(serve_until_signal(definition.name, configured, REAL, on_started=say_started))
    )


async def serve_until_signal(
    name: str, configured: Sequence[ConfiguredService], clients: Clients, *, on_started: Callable[[str], None]
) -> None:
    """Open everything, run until a signal, drain and close. `on_started` is given `host:port`.

    Raises what opening raises, OSError if the port is taken among it.
    """
    stop = _stop_on_signals()
    settings = configured[0].settings
    uses_broker = any(one.definition.uses_broker for one in configured)
    with bind_socket(settings.http.host, settings.http.port) as listener:
        host, port = listener.getsockname()[:2]
        async with (
            open_resources(name, settings, clients, uses_broker=uses_broker) as resources,
            open_process(name, configured, resources) as process,
        ):
            await run_process(process, listener, stop, on_started=lambda: on_started(f"{host}:{port}"))
    log.info("service_stopped")


async def run_process(
    process: Process, listener: socket.socket, stop: asyncio.Event, *, on_started: Callable[[], None]
) -> None:
    """Run the process's stages and its HTTP server until `stop`; then drain.

    A stage or server that dies takes the others down: a restarted pod is better than a half-dead one.
    """
    settings, health = process.settings, process.health
    if any(one.definition.serves_clients for one, _ in process.services):
        process.policy.access.warn_if_open()
    grace_s = max(one.settings.process.shutdown_grace.total_seconds() for one, _ in process.services)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(process.app, listener, stop, grace_s=grace_s, limits=_limits(settings.http)), name="http"
        )
        for stage, resources in process.stages:
            group.create_task(run_stage(stage, resources, stop), name=f"stage/{stage.name}")
        async with run_alongside(_recorders(process, stop)):
            health.is_started = True
            listener.listen()  # before `on_started`; the server's task takes the connections as soon as it runs
            on_started()
            await stop.wait()
            health.is_stopping = True
            process.resources.wakeups.end_waiting()


def run_reporting_errors(run: Callable[[], None]) -> int:
    """Run to the end. Returns the exit code: 0, or 1 (2 for settings) with a log line for each cause.

    An error that is none of the known causes is a bug and keeps its traceback.
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


def _stop_on_signals() -> asyncio.Event:
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


def _freeze_modules() -> None:
    """Spare the garbage collector what was imported: it stays for good.

    With the thresholds that follow it costs a tenth less processor time for each request (benchmarks/ingress.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _limits(settings: HttpSettings) -> RequestLimits:
    return RequestLimits(head_timeout=settings.request_head_timeout, body_timeout=settings.upload_timeout_seconds)


def _recorders(process: Process, stop: asyncio.Event) -> dict[str, Coroutine[object, object, object]]:
    """What keeps the process's health reports and the gauges of its queues current."""
    settings, resources = process.settings, process.resources
    names = [one.definition.name for one, _ in process.services]
    reporter = build_health_reporter(names, process.health.dependencies, resources, settings.health)
    recorders: dict[str, Coroutine[object, object, object]] = {"report-health": reporter.run()}
    if isinstance(resources, BrokerResources) and process.stages:
        consumed = {stage.name for stage, _ in process.stages}
        queues = [
            name for queue in settings.broker.topology.stage_queues if queue.stage in consumed for name in queue.names
        ]
        recorders["record-broker-gauges"] = record_broker_gauges(resources.broker, queues, resources.metrics, stop)
    return recorders


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
