"""What stands between the stage and a provider, so that neither hurts the other. `provider_guards` is the order."""

from eai_agent_router.guards.fallback import FallbackAgent
from eai_agent_router.guards.guarded import GuardedAgent, GuardResources, guard_agent, provider_guards
from eai_agent_router.guards.judging import TargetOf, engine_targets, is_down
from eai_agent_router.guards.settings import GuardSettings
from eai_agent_router.guards.waits import ProviderBusy, ProviderDown, ProviderLimited, ProviderWait, RetriesSpent

__all__ = [
    "FallbackAgent",
    "GuardResources",
    "GuardSettings",
    "GuardedAgent",
    "ProviderBusy",
    "ProviderDown",
    "ProviderLimited",
    "ProviderWait",
    "RetriesSpent",
    "TargetOf",
    "engine_targets",
    "guard_agent",
    "is_down",
    "provider_guards",
]
