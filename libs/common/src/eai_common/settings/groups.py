"""The groups that several services share. A group that one service needs lives in that service."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from eai_common.settings.base import Duration, Group
from eai_common.settings.sentinel import SentinelAddress
from eai_common.topology import Topology

__all__ = [
    "BrokerSettings",
    "ProcessSettings",
    "RedisSettings",
    "SandboxHost",
    "TaskSettings",
    "TelemetrySettings",
    "WorkerSettings",
]


SandboxHost = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9.-]*$",
        description="Host of a sandbox in its own container. It is called like one on this machine, without TLS and "
        "credentials. Refused in production.",
    ),
]
"""Read by every service that has a provider, and by all, for the refusal."""


class ProcessSettings(Group):
    """What kind of deployment this is."""

    environment: Literal["development", "staging", "production"] = Field(
        default="development",
        description="production refuses in-memory resources, sandbox providers and missing credentials.",
    )
    shutdown_grace: Duration = Field(
        default=timedelta(seconds=25),
        description="After SIGTERM, how long deliveries and requests may take to finish. Then deliveries are "
        "handed back to the broker. Must be less than the platform's own limit (Kubernetes: 30 s).",
    )
    sandbox_host: SandboxHost = ""

    @model_validator(mode="after")
    def _has_real_providers_in_production(self) -> ProcessSettings:
        if self.environment == "production" and self.sandbox_host:
            raise ValueError(f'SANDBOX_HOST: got "{self.sandbox_host}", takes nothing in production')
        return self


class BrokerSettings(Group):
    """RabbitMQ."""

    model_config = SettingsConfigDict(env_prefix="RABBITMQ_")

    url: SecretStr = Field(
        default=SecretStr(""), description="amqp:// or amqps:// address. Empty in `./eai up`: an in-memory broker."
    )
    exchange: str = Field(
        default="eai_agent_exchange",
        description="Name of the topic exchange. The names of the other exchanges derive from it.",
    )
    queue_prefix: str = Field(default="eai", description="First part of the name of every queue.")
    queue_type: Literal["quorum", "classic"] = Field(
        default="quorum", description="quorum queues are replicated. classic queues are faster but on a single node."
    )
    prefetch_count: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Unacked deliveries that one process holds. A higher count hides latency; it costs memory and "
        "fairness.",
    )
    max_retries: int = Field(
        default=5, ge=0, le=50, description="Retries after the first attempt, for errors that may pass."
    )
    retry_delay: Duration = Field(
        default=timedelta(seconds=5),
        description="First backoff. It doubles with each attempt, up to 10 minutes. The delay is a random part of "
        "it.",
    )
    publish_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="Timeout of a publisher confirm. After it the broker counts as unavailable.",
    )
    connect_timeout: Duration = Field(
        default=timedelta(seconds=30), description="How long a start waits for the broker before it fails."
    )

    @property
    def topology(self) -> Topology:
        return Topology(exchange=self.exchange, prefix=self.queue_prefix, queue_type=self.queue_type)


class RedisSettings(Group):
    """Redis or Valkey."""

    model_config = SettingsConfigDict(env_prefix="REDIS_")

    url: SecretStr = Field(
        default=SecretStr(""),
        description="redis:// or rediss:// address, or redis+sentinel://host:port,host:port/name with the password "
        "apart. Empty in `./eai up`: an in-process Redis.",
    )
    password: SecretStr = Field(default=SecretStr(""), description="Password, when it is not in the address.")
    pool_size: int = Field(
        default=10, ge=1, le=1000, description="Maximum of connections of one process, plus one for wake-ups."
    )
    timeout: Duration = Field(default=timedelta(seconds=2), description="Timeout for a connection and for a reply.")

    @model_validator(mode="after")
    def _address_can_be_read(self) -> RedisSettings:
        SentinelAddress.parse(self.url.get_secret_value())
        return self

    @property
    def sentinels(self) -> SentinelAddress | None:
        return SentinelAddress.parse(self.url.get_secret_value())


class TaskSettings(Group):
    """How long what is stored about a message lives."""

    task_result_ttl: Duration = Field(default=timedelta(seconds=120), description="How long a result can be fetched.")
    task_status_ttl: Duration = Field(
        default=timedelta(seconds=600),
        description="How long the status of a finished message is kept. After its result has expired, a poll gets "
        "410.",
    )
    task_processing_ttl: Duration = Field(
        default=timedelta(hours=24),
        description="How long the status of an unfinished message is kept. Must be longer than the slowest agent "
        "and the longest backlog.",
    )
    checkpoint_ttl: Duration = Field(
        default=timedelta(hours=24),
        description="How long a stage keeps its outcome for a message, so that a redelivery does not repeat the "
        "work.",
    )
    agent_id_cache_ttl: Duration = Field(
        default=timedelta(seconds=86400),
        description="How long a user's thread and agent id are kept after the last message.",
    )
    last_activity_ttl: Duration = Field(
        default=timedelta(seconds=86400), description="How long the time of a user's last message is kept."
    )
    message_id_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key of the check mark in message ids; the same in all services. Without a key, the mark "
        "detects foreign ids, but a stranger could forge one.",
    )


class WorkerSettings(Group):
    """What every consuming stage obeys."""

    worker_timeout: Duration = Field(default=timedelta(seconds=300), description="Timeout of one delivery in a stage.")
    max_parallel: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Most deliveries that one process handles at a time. Unset: RABBITMQ_PREFETCH_COUNT.",
    )
    checkpoint_lease: Duration = Field(
        default=timedelta(seconds=10),
        description="If a stage dies while it processes a message, how long until another replica resumes it.",
    )
    max_redeliveries: int = Field(
        default=10,
        ge=1,
        le=40,
        description="How often a message may come back unsettled before it counts as poison and is dead-lettered.",
    )


class TelemetrySettings(Group):
    """Logs, metrics and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level to log."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="text is for terminals.")
    enable_request_logging: bool = Field(
        default=True, description="One log line for each HTTP request. Accepted messages are always logged."
    )
    mask_user_numbers: bool = Field(default=True, description="Mask users' numbers in logs and traces.")
    prometheus_enabled: bool = Field(default=True, description="Serve metrics.")
    metrics_path: str = Field(default="/metrics", pattern=r"^/\S+$", description="Path of the metrics.")
    otel_enabled: bool = Field(
        default=False, description="Export traces by OTLP over HTTP. The standard OTEL_* variables apply."
    )

    @model_validator(mode="before")
    @classmethod
    def _level_in_any_case(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("log_level"), str):
            return {**values, "log_level": values["log_level"].lower()}
        return values
