"""The services of the registry, loaded. Only the command line loads them all."""

from __future__ import annotations

from eai_common.process import load_services

__all__ = ["DEFINITIONS"]

DEFINITIONS = load_services()
"""In the order in which a message passes them."""
