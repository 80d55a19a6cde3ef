"""Which version of the gateway this is."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["gateway_version"]


@cache
def gateway_version() -> str:
    """The installed package's; EAI_VERSION where the code runs without being installed, as in a container."""
    try:
        return version("eai-common")
    except PackageNotFoundError:
        return os.environ.get("EAI_VERSION", "development")
