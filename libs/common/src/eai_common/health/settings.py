"""The settings of health checks."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from eai_common.registry import list_provider_names
from eai_common.settings.base import Duration, Group, Items

__all__ = ["HealthSettings"]


_KNOWN = ("redis", "rabbitmq", *list_provider_names())


def _names(items: tuple[str, ...]) -> tuple[str, ...]:
    if items == ("true",):  # as an older .env may say
        return ()
    if unknown := [item for item in items if item not in _KNOWN]:
        raise ValueError(f"no such dependency: {unknown[0]}")
    return items


DependencyNames = Annotated[
    Items,
    AfterValidator(_names),
    WithJsonSchema({"type": "array", "takes": f"names separated by commas, of {', '.join(_KNOWN)}"}),
]


class HealthSettings(Group):
    """How a process checks its dependencies. Readiness is not cached."""

    health_check_cache_ttl: Duration = Field(
        default=timedelta(seconds=30), description="How long a finding is kept before /health checks again."
    )
    health_check_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="Longest time for the check of one dependency; after it the dependency counts as unhealthy.",
    )
    health_check_interval: Duration = Field(
        default=timedelta(seconds=30),
        description="How often a process writes its health report to Redis. The poller's /health shows all reports.",
    )
    health_check_dependencies: DependencyNames = Field(
        default=(), description="Dependencies to check. Empty: all that the service uses."
    )
    enable_detailed_health_checks: bool = Field(
        default=True,
        description="Serve /health?detail=true and /health/{dependency}, for the role read_only.",
    )
