"""The settings that every service reads."""

from __future__ import annotations

from dataclasses import dataclass

from eai_common.health import HealthSettings
from eai_common.settings import (
    BrokerSettings,
    HttpSettings,
    JwtSettings,
    ProcessSettings,
    RedisSettings,
    SecuritySettings,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
)

__all__ = ["CommonSettings"]


@dataclass(frozen=True)
class CommonSettings:
    """The groups that every service reads; a service's own settings extend it."""

    process: ProcessSettings
    broker: BrokerSettings
    redis: RedisSettings
    tasks: TaskSettings
    worker: WorkerSettings
    http: HttpSettings
    jwt: JwtSettings
    security: SecuritySettings
    health: HealthSettings
    telemetry: TelemetrySettings
