"""The settings of the guards before each provider."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from eai_agent_router.agent import Provider
from eai_common.guards import BreakerRules, BudgetRules
from eai_common.settings import Duration, Group, Items

__all__ = ["GuardSettings"]


def _providers(names: tuple[str, ...]) -> tuple[str, ...]:
    if not set(names) <= set(Provider):
        raise ValueError("not a provider")
    return names


Providers = Annotated[
    Items,
    AfterValidator(_providers),
    WithJsonSchema({"type": "array", "takes": f"a list separated by commas of {', '.join(Provider)}"}),
]


class GuardSettings(Group):
    """The guards before each provider, and how long a message waits for one."""

    google_api_rate_limit: int = Field(
        default=100, ge=0, description="Calls a minute to one service of Google, of all replicas together; 0: no limit."
    )
    eai_api_rate_limit: int = Field(
        default=0, ge=0, description="Turns a minute with the EAI Agent Service, of all replicas together; 0: no limit."
    )
    openai_api_rate_limit: int = Field(
        default=0,
        ge=0,
        description="Turns a minute with the OpenAI-compatible endpoint, of all replicas together; 0: no limit.",
    )
    agent_parallel: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Turns that one process may have with one provider at a time. Unset: MAX_PARALLEL, else "
        "RABBITMQ_PREFETCH_COUNT. The prefetch of the process covers all its providers.",
    )
    agent_fallback: Providers = Field(
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

    def rate_limit(self, provider: str) -> int:
        """Calls a minute to the provider; 0 for no limit."""
        return {
            Provider.GOOGLE_AGENT_ENGINE: self.google_api_rate_limit,
            Provider.EAI_AGENT_SERVICE: self.eai_api_rate_limit,
            Provider.OPENAI: self.openai_api_rate_limit,
        }[Provider(provider)]
