"""The one guarded HTTP client, for URLs that a caller chose: it reaches public addresses and nothing inside."""

from eai_common.outbound.client import Answered, Fetched, GuardedClient
from eai_common.outbound.errors import (
    OutboundFailed,
    OutboundRefused,
    OutboundRejected,
    OutboundTimeout,
    OutboundTooLarge,
    OutboundUnknownHost,
    OutboundUnreachable,
)
from eai_common.outbound.network import Resolver, resolve_by_system
from eai_common.outbound.policy import AllowedHosts, HostRule, OutboundPolicy
from eai_common.outbound.target import Target

__all__ = [
    "AllowedHosts",
    "Answered",
    "Fetched",
    "GuardedClient",
    "HostRule",
    "OutboundFailed",
    "OutboundPolicy",
    "OutboundRefused",
    "OutboundRejected",
    "OutboundTimeout",
    "OutboundTooLarge",
    "OutboundUnknownHost",
    "OutboundUnreachable",
    "Resolver",
    "Target",
    "resolve_by_system",
]
