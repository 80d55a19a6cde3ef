"""Builds the stage that delivers callbacks."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Protocol

from eai_common.clock import Clock
from eai_common.messages import TaskCompleted
from eai_common.outbound import OutboundPolicy
from eai_common.retry import RetryPolicy, Schedule
from eai_common.settings import ProcessSettings, TaskSettings
from eai_common.stage import Stage, handler_for
from eai_common.store import RedisClient
from eai_common.telemetry import Metrics, get_logger
from eai_formatter.callbacks.hosts import HostRules, guard_hosts
from eai_formatter.callbacks.log import CallbackLog
from eai_formatter.callbacks.sender import CallbackRules, CallbackSender, Poster
from eai_formatter.callbacks.settings import CallbackSettings
from eai_formatter.callbacks.signing import Bearer, Signer, parse_secrets
from eai_formatter.sender import SendResult

__all__ = ["RETRIES", "build_callback_policy", "build_callback_stage"]

log = get_logger("eai.callbacks")

RETRIES = Schedule(
    (
        timedelta(seconds=5),
        timedelta(seconds=30),
        timedelta(minutes=2),
        timedelta(minutes=10),
        timedelta(hours=1),
        timedelta(hours=6),
    )
)
"""What receivers are promised; every wait is a rung of the delay ladder."""


class CallbackResources(Protocol):
    """What the delivery needs of a process."""

    @property
    def redis(self) -> RedisClient: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def random(self) -> Random: ...
    @property
    def metrics(self) -> Metrics: ...


def build_callback_policy(settings: CallbackSettings) -> OutboundPolicy:
    """Return where callbacks may go. The timeout is the only limit on time."""
    return OutboundPolicy(
        allow_http=settings.allow_http,
        allowed_networks=settings.allowed_networks,
        connect_limit=settings.timeout,
        first_byte_limit=settings.timeout,
        stall_limit=settings.timeout,
        max_connections=settings.max_parallel,
    )


def build_callback_stage(
    settings: CallbackSettings,
    process: ProcessSettings,
    tasks: TaskSettings,
    resources: CallbackResources,
    client: Poster,
    *,
    retry: RetryPolicy = RETRIES,
    host_rules: HostRules | None = None,
) -> Stage:
    """Return the stage that delivers callbacks. Tests make `retry` and `host_rules` shorter."""
    signer = Signer(parse_secrets(settings.secrets.get_secret_value()))
    must_be_signed = process.environment != "development"
    if not signer.can_sign:
        log.warning("callbacks_unsigned", consequence="dead letter" if must_be_signed else "sent without a signature")
    deliveries = CallbackLog(resources.redis, tasks)
    sender = CallbackSender(
        client=client,
        signer=signer,
        bearer=Bearer(settings.bearer_token.get_secret_value(), settings.bearer_hosts),
        hosts=guard_hosts(host_rules or HostRules(settings.max_parallel_per_host), resources.random.random),
        attempts=deliveries,
        rules=CallbackRules(build_callback_policy(settings), settings.timeout, must_be_signed),
        clock=resources.clock,
        metrics=resources.metrics,
    )
    return Stage(
        "callbacks",
        (handler_for(TaskCompleted, SendResult(sender)),),
        retry=retry,
        parallel=settings.max_parallel,
        progress_log=deliveries,
    )
