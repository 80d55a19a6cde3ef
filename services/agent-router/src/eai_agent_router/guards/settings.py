"""The settings of the guards before each provider."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from eai_common.guards import BreakerRules, BudgetRules
from eai_common.settings import Duration, Group, ProviderNames

__all__ = ["GuardSettings"]


class GuardSettings(Group):
    """The guards before each provider, and how long a message waits for one."""

    agent_parallel: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Turns that one process may have with one provider at a time. Unset: MAX_PARALLEL, else "
        "RABBITMQ_PREFETCH_COUNT. The prefetch of the process covers all its providers.",
    )
    agent_fallback: ProviderNames = Field(
        default=(),
        description="Providers that answer, in this order, if AGENT_PROVIDER is out of reach and the message "
        "names neither a provider nor an engine. They do not know what the user said to other "
        "providers.",
    )
    agent_max_wait: Duration = Field(
        default=timedelta(minutes=10),
        validation_alias="AGENT_PATIENCE",
        description="How long a message waits for a provider that is busy, limited or down. After it, each "
        "further wait uses an attempt.",
    )
    agent_retry_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries at a provider, as a share of first attempts; at least ten a minute. Further retries "
        "are deferred.",
    )
    agent_breaker_failures: int = Field(
        default=5, ge=1, le=1000, description="Consecutive failures that open the breaker of a provider."
    )
    agent_breaker_open: Duration = Field(
        default=timedelta(seconds=10),
        description="How long the breaker stays open. It doubles after each failed probe.",
    )
    agent_breaker_longest_open: Duration = Field(
        default=timedelta(minutes=2), description="The longest time that the breaker stays open."
    )
    agent_breaker_probes: int = Field(default=2, ge=1, le=100, description="Successful probes that close the breaker.")

    @property
    def breaker(self) -> BreakerRules:
        return BreakerRules(
            failures_to_open=self.agent_breaker_failures,
            open_for=self.agent_breaker_open,
            longest_open=self.agent_breaker_longest_open,
            probes=self.agent_breaker_probes,
            probe_wait=self.agent_breaker_open / 2,
        )

    @property
    def budget(self) -> BudgetRules:
        return BudgetRules(share=self.agent_retry_share)
