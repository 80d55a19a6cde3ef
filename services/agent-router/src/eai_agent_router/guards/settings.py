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
        default=100, ge=0, description="Calls a minute to Agent Engine, by all replicas together. 0: no limit."
    )
    eai_api_rate_limit: int = Field(
        default=0, ge=0, description="The same for turns with the EAI Agent Service. 0: no limit."
    )
    openai_api_rate_limit: int = Field(
        default=0, ge=0, description="The same for the OpenAI-compatible endpoint. 0: no limit."
    )
    agent_parallel: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Turns that one process has under way with one provider; MAX_PARALLEL, else "
        "RABBITMQ_PREFETCH_COUNT, when unset. The process takes as many deliveries as all its providers need.",
    )
    agent_fallback: Providers = Field(
        default=(),
        description="Providers that answer, in this order, when AGENT_PROVIDER is out of reach and the message names "
        "neither a provider nor an engine. They do not know what the user said to the others.",
    )
    agent_max_wait: Duration = Field(
        default=timedelta(minutes=10),
        validation_alias="AGENT_PATIENCE",
        description="How long a message waits for a provider that is busy, limited or down, until waiting costs tries.",
    )
    agent_retry_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries at a provider, as a share of first tries, ten a minute in any case; more are put off.",
    )
    agent_breaker_failures: int = Field(
        default=5, ge=1, le=1000, description="Failures in a row after which a provider is left alone."
    )
    agent_breaker_open: Duration = Field(
        default=timedelta(seconds=10), description="For how long; doubled each time that it is still down afterwards."
    )
    agent_breaker_longest_open: Duration = Field(
        default=timedelta(minutes=2), description="The longest that it is left alone at a time."
    )
    agent_breaker_probes: int = Field(
        default=2, ge=1, le=100, description="Messages that must be answered afterwards until all go there again."
    )

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
