"""The checks of Redis, of the broker, and of the providers by the state of their breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from eai_common.broker import Broker, BrokerUnavailable
from eai_common.clock import Clock
from eai_common.health.dependencies import Check, Dependencies, Dependency, Finding, Status
from eai_common.health.gateway import GATEWAY
from eai_common.health.settings import HealthSettings
from eai_common.registry import list_provider_names
from eai_common.store import RedisClient, StoreUnavailable, pool_use
from eai_common.telemetry import Metrics

__all__ = [
    "make_broker_dependency",
    "make_provider_dependencies",
    "redis_answers",
    "make_redis_dependency",
    "select_dependencies",
]

_PROBE_S = 2.0  # an orchestrator gives a probe a few seconds at most
_STATUS_BY_BREAKER: dict[str, Status] = {"closed": "healthy", "half_open": "degraded", "open": "unhealthy"}


async def redis_answers(redis: RedisClient) -> bool:
    """Whether Redis answers a ping in the time that a probe has."""
    try:
        async with asyncio.timeout(_PROBE_S):
            await redis.ping()
            return True
    except (StoreUnavailable, TimeoutError):
        return False


def make_redis_dependency(redis: RedisClient, *, is_needed: bool) -> Dependency:
    """Whether Redis answers, and how much of the connection pool is in use."""

    async def check() -> Finding:
        try:
            await redis.ping()
        except StoreUnavailable as error:
            return Finding("unhealthy", {"error": str(error), "pool": _describe_pool(redis)})
        return Finding("healthy", {"pool": _describe_pool(redis)})

    return Dependency("redis", check, is_needed)


def make_broker_dependency(broker: Broker, queues: Sequence[str], *, is_needed: bool) -> Dependency:
    """Whether the broker takes messages, and how many wait in each queue."""

    async def check() -> Finding:
        if not broker.is_ready:
            return Finding("unhealthy", {"error": "not connected, or it takes no messages now"})
        try:
            depths: dict[str, JsonValue] = {queue: await broker.depth(queue) for queue in queues}
        except BrokerUnavailable as error:
            return Finding("unhealthy", {"error": type(error).__name__})
        return Finding("healthy", {"queue_depths": depths})

    return Dependency("rabbitmq", check, is_needed)


def make_provider_dependencies(metrics: Metrics) -> list[Dependency]:
    """The providers that this process calls, by the state of their breakers. No call is made for a health check.

    A provider that is down never makes the process unready: its messages wait, and other replicas would fare no better.
    """
    states = dict(_read_breaker_states(metrics))
    return [Dependency(name, _make_breaker_check(metrics, name)) for name in list_provider_names() if name in states]


def select_dependencies(dependencies: Sequence[Dependency], settings: HealthSettings, clock: Clock) -> Dependencies:
    """Those that the settings name; all if they name none."""
    names = settings.health_check_dependencies
    wanted = [one for one in dependencies if not names or one.name in names or one.name == GATEWAY]
    return Dependencies(wanted, clock, ttl=settings.health_check_cache_ttl, timeout=settings.health_check_timeout)


def _make_breaker_check(metrics: Metrics, name: str) -> Check:
    async def check() -> Finding:
        state = dict(_read_breaker_states(metrics))[name]
        return Finding(_STATUS_BY_BREAKER[state], {"circuit": state})

    return check


def _read_breaker_states(metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Name and state of each breaker of this process, from the gauge that they keep."""
    for metric in metrics.breaker_state.collect():
        for sample in metric.samples:
            if sample.value:
                yield sample.labels["service"], sample.labels["state"]


def _describe_pool(redis: RedisClient) -> JsonValue:
    use = pool_use(redis)
    return {"active": use.active, "idle": use.idle, "max": use.most}
