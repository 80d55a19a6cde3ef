"""What stands between the stage and a provider, so that neither hurts the other; `GUARDS` is the order of it.

Whoever is stopped is deferred into the delay ladder: that costs no attempt, and holds none of the stage's own places.
"""

from eai_agent_router.guards.circuits import circuit_names
from eai_agent_router.guards.fallback import FallbackAgent
from eai_agent_router.guards.guarded import GUARDS, Guard, GuardedAgent, GuardParts, guarded
from eai_agent_router.guards.patience import Patient
from eai_agent_router.guards.settings import GuardSettings
from eai_agent_router.guards.waits import ProviderBusy, ProviderDown, ProviderLimited, ProviderWait, RetriesSpent

__all__ = [
    "GUARDS",
    "FallbackAgent",
    "Guard",
    "GuardParts",
    "GuardSettings",
    "GuardedAgent",
    "Patient",
    "ProviderBusy",
    "ProviderDown",
    "ProviderLimited",
    "ProviderWait",
    "RetriesSpent",
    "circuit_names",
    "guarded",
]
