"""What a service tells of its health, and is taken out of service by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from eai_common.dependencies import broker_dependency, chosen, provider_dependencies, redis_dependency
from eai_common.gateway_health import HealthWriter, gateway_dependency
from eai_common.health import Dependency
from eai_common.http import Check, Health
from eai_common.store import HealthBoard

if TYPE_CHECKING:
    from eai_common.service import CommonSettings, Need, Parts

__all__ = ["health_checks", "health_of", "health_writer"]

_PROBE_S = 2.0  # an orchestrator gives a probe a few seconds at most
_TOLD_OF = ("ingress", "transcriber", "agent-router", "formatter")


def health_checks(needs: frozenset[Need], parts: Parts) -> dict[str, Check]:
    """The checks that decide readiness."""

    async def redis_answers() -> bool:
        try:
            async with asyncio.timeout(_PROBE_S):
                return bool(await parts.redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def broker_is_ready() -> bool:
        return parts.broker.is_ready

    checks: dict[Need, Check] = {"redis": redis_answers, "rabbitmq": broker_is_ready}
    return {name: check for name, check in checks.items() if name in needs}


def health_of(
    name: str, needs: frozenset[Need], settings: CommonSettings, parts: Parts, *, tells_of_all: bool = False
) -> Health:
    """The health of a process that `needs` these; one that `tells_of_all` reads what the other services wrote down."""
    dependencies: list[Dependency] = [redis_dependency(parts.redis, is_needed="redis" in needs)]
    if parts.opened_broker is not None:
        stages = settings.broker.topology.stage_queues
        queues = [queue for stage in stages for queue in (stage.name, stage.dead_letter_queue)]
        dependencies.append(broker_dependency(parts.broker, queues, is_needed="rabbitmq" in needs))
    dependencies += provider_dependencies(parts.metrics)
    if tells_of_all:
        dependencies.append(gateway_dependency(_board(settings, parts), parts.clock, _TOLD_OF))
    return Health(
        name,
        health_checks(needs, parts),
        chosen(dependencies, settings.health, parts.clock),
        is_detailed=settings.health.enable_detailed_health_checks,
    )


def health_writer(settings: CommonSettings, parts: Parts, health: Health) -> HealthWriter:
    """What writes down how the process is, for those that tell of all."""
    assert health.dependencies is not None, "made by health_of"
    return HealthWriter(
        _board(settings, parts),
        health.service,
        parts.ids.random_id(),
        health.dependencies,
        parts.clock,
        settings.health.health_check_interval,
    )


def _board(settings: CommonSettings, parts: Parts) -> HealthBoard:
    return HealthBoard(parts.redis, settings.health.health_check_interval * 3)
