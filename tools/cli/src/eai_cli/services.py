"""The five services. Only the command line imports them all."""

from __future__ import annotations

from typing import Any

from eai_agent_router.service import AGENT_ROUTER
from eai_common.process import ServiceDefinition
from eai_formatter.service import FORMATTER
from eai_ingress.service import INGRESS
from eai_poller.service import POLLER
from eai_transcriber.service import TRANSCRIBER

__all__ = ["DEFINITIONS"]

# Each definition has its own settings type.
DEFINITIONS: tuple[ServiceDefinition[Any, Any], ...] = (INGRESS, TRANSCRIBER, AGENT_ROUTER, FORMATTER, POLLER)
"""In the order in which a message passes them."""
