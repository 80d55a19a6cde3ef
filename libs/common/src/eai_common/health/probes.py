"""The routes `/live`, `/ready`, `/health` and the metrics, for an orchestrator and a dashboard."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.clock import SystemClock
from eai_common.credentials import Role
from eai_common.health.dependencies import Dependencies, Finding
from eai_common.health.gateway import GATEWAY
from eai_common.http.callers import require
from eai_common.http.errors import ErrorBody, HttpError, json_response
from eai_common.http.security import ProbeRoute
from eai_common.telemetry import Metrics
from eai_common.version import gateway_version

__all__ = ["Health", "ReadinessCheck", "make_probe_routes"]

ReadinessCheck = Callable[[], Awaitable[bool]]
"""True when the dependency works. Raises nothing."""


def _no_dependencies() -> Dependencies:
    return Dependencies((), SystemClock(), ttl=timedelta(), timeout=timedelta())


@dataclass
class Health:
    """The state of this process. If one of the `checks` fails, the process is not ready.

    `dependencies` are only reported: a provider that is down takes no process out of service.
    """

    service: str
    checks: Mapping[str, ReadinessCheck] = field(default_factory=dict)
    dependencies: Dependencies = field(default_factory=_no_dependencies)
    is_detailed: bool = True
    is_started: bool = False
    is_stopping: bool = False
    started_at_s: float = field(default_factory=time.perf_counter)
    process: psutil.Process = field(default_factory=lambda: psutil.Process(os.getpid()))

    async def failing(self) -> list[str]:
        """The names of the readiness checks that fail now."""
        return [name for name, check in self.checks.items() if not await check()]

    async def findings(self) -> dict[str, Finding]:
        """The last finding of each dependency."""
        return await self.dependencies.findings()


def make_probe_routes(health: Health, metrics: Metrics, metrics_path: str | None) -> list[Route]:
    """The routes; without a `metrics_path` there are no metrics."""

    async def live(_: Request) -> Response:
        return json_response({"status": "alive"})

    async def ready(_: Request) -> Response:
        failing = await health.failing()
        is_ready = health.is_started and not health.is_stopping and not failing
        body = {"status": "ready" if is_ready else "not ready", "failing": failing}
        return json_response(body, 200 if is_ready else 503)

    async def report(request: Request) -> Response:
        is_detailed = request.query_params.get("detail", "").lower() in ("true", "1")
        if is_detailed:
            require(request, Role.READ_ONLY)
        return await _report(health, is_detailed=is_detailed and health.is_detailed)

    async def report_one(request: Request) -> Response:
        require(request, Role.READ_ONLY)
        return await _report_one(health, request.path_params["dependency"])

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    routes: list[Route] = [ProbeRoute("/live", live), ProbeRoute("/ready", ready), ProbeRoute("/health", report)]
    if health.is_detailed:
        routes.append(Route("/health/{dependency}", report_one))
    return routes if metrics_path is None else [*routes, ProbeRoute(metrics_path, exposition)]


async def _report(health: Health, *, is_detailed: bool) -> Response:
    findings = await health.findings()
    status = health.dependencies.verdict(findings)
    gateway = findings.pop(GATEWAY, None)
    services = {**_reported_by_others(gateway), **_described(findings, is_detailed=is_detailed)}
    body: dict[str, JsonValue] = {
        "status": status,
        "service": health.service,
        "services": services,
        "system": _system(health),
        "version": gateway_version(),
    }
    if gateway is not None:
        body["gateway"] = gateway.details.get("services", {})
    return json_response(body, 503 if status == "unhealthy" else 200)


async def _report_one(health: Health, name: str) -> Response:
    findings = await health.findings()
    services = {**_reported_by_others(findings.get(GATEWAY)), **_described(findings, is_detailed=True)}
    if (found := services.get(name)) is None:
        known = ", ".join(sorted(services)) or "none"
        raise HttpError(404, ErrorBody("Not Found", f"No such dependency. This service has: {known}"))
    assert isinstance(found, dict)
    return json_response({"dependency": name, **found}, 503 if found["status"] == "unhealthy" else 200)


def _described(findings: Mapping[str, Finding], *, is_detailed: bool) -> dict[str, JsonValue]:
    return {
        name: {"status": finding.status, **(finding.details if is_detailed else {})}
        for name, finding in findings.items()
    }


def _reported_by_others(gateway: Finding | None) -> dict[str, JsonValue]:
    """The dependencies of the other services, from their reports."""
    found = gateway.details.get("dependencies") if gateway is not None else None
    return {name: {"status": status} for name, status in found.items()} if isinstance(found, dict) else {}


def _system(health: Health) -> dict[str, JsonValue]:
    return {
        "memory_usage_mb": round(health.process.memory_info().rss / 2**20, 1),
        "cpu_usage_percent": health.process.cpu_percent(),  # of one core, since the last request
        "asyncio_tasks": len(asyncio.all_tasks()),
        "uptime_seconds": round(time.perf_counter() - health.started_at_s, 1),
    }
