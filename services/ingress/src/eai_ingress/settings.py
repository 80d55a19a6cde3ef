"""What ingress is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field

from eai_common.outbound import OutboundPolicy
from eai_common.process import CommonSettings
from eai_common.settings import AllowedNetworks, Duration, Group, ProviderNames
from eai_common.turns.settings import OrderingSettings

__all__ = ["IngressSettings", "Settings"]


class IngressSettings(Group):
    """What ingress accepts."""

    agent_providers: ProviderNames = Field(
        default=("google_agent_engine",),
        description="Providers that a message may name. List the configured providers of agent-router.",
    )
    callback_allow_http: bool = Field(default=False, description="Also accept callback URLs without TLS.")
    callback_allowed_networks: AllowedNetworks = Field(
        default=(), description="Private networks that callbacks may go to, on any port."
    )

    backpressure_queue_limit: int = Field(
        default=50_000,
        ge=1,
        le=1_000_000,
        description="If a queue on the way of a message has this many messages, the webhook answers 503, until "
        "the queue is below 80 % of it. A queue holds at most a million.",
    )
    idempotency_ttl: Duration = Field(
        default=timedelta(hours=24), description="How long an Idempotency-Key identifies its first request."
    )

    history_wait: Duration = Field(
        default=timedelta(seconds=30),
        description="How long update_history waits for the agent before it answers 202 with a message id.",
    )

    @property
    def callbacks(self) -> OutboundPolicy:
        return OutboundPolicy(allow_http=self.callback_allow_http, allowed_networks=self.callback_allowed_networks)


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Everything that ingress reads."""

    ingress: IngressSettings
    ordering: OrderingSettings
