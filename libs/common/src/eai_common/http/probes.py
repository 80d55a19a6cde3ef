"""`/live`, `/ready`, `/health` and the metrics: what an orchestrator and a dashboard ask a service."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import psutil
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.http.errors import json_response
from eai_common.http.front import ProbeRoute
from eai_common.telemetry import Metrics

__all__ = ["Check", "Health", "probe_routes"]

Check = Callable[[], Awaitable[bool]]
"""True when the dependency works. Raises nothing."""


@dataclass
class Health:
    """What this process knows of itself. `checks` are what it cannot work without: one that fails makes it unready."""

    service: str
    checks: Mapping[str, Check] = field(default_factory=dict)
    is_started: bool = False
    is_stopping: bool = False
    started_at_s: float = field(default_factory=time.monotonic)

    async def failing(self) -> list[str]:
        """The names of the checks that fail now."""
        return [name for name, check in self.checks.items() if not await check()]


def probe_routes(health: Health, metrics: Metrics, metrics_path: str | None) -> list[Route]:
    """The routes; without a `metrics_path` there are no metrics."""

    async def live(_: Request) -> Response:
        return json_response({"status": "alive"})

    async def ready(_: Request) -> Response:
        failing = await health.failing()
        is_ready = health.is_started and not health.is_stopping and not failing
        body = {"status": "ready" if is_ready else "not ready", "failing": failing}
        return json_response(body, 200 if is_ready else 503)

    async def report(_: Request) -> Response:
        failing = await health.failing()
        status: Literal["healthy", "unhealthy"] = "unhealthy" if failing else "healthy"
        body = {
            "status": status,
            "service": health.service,
            "services": {name: {"status": "unhealthy" if name in failing else "healthy"} for name in health.checks},
            "system": _system(health),
            "version": _version(),
        }
        return json_response(body, 503 if failing else 200)

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    routes: list[Route] = [ProbeRoute("/live", live), ProbeRoute("/ready", ready), ProbeRoute("/health", report)]
    return routes if metrics_path is None else [*routes, ProbeRoute(metrics_path, exposition)]


def _system(health: Health) -> dict[str, float]:
    process = psutil.Process(os.getpid())
    return {
        "memory_usage_mb": round(process.memory_info().rss / 2**20, 1),
        "uptime_seconds": round(time.monotonic() - health.started_at_s, 1),
    }


def _version() -> str:
    try:
        return version("eai-common")
    except PackageNotFoundError:
        return os.environ.get("EAI_VERSION", "development")
