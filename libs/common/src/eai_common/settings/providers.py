"""Settings that name providers of agents: only those that are registered."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from eai_common.registry import provider_names
from eai_common.settings.base import Items

__all__ = ["ProviderName", "ProviderNames"]

_NAMES = ", ".join(provider_names("agent"))


def _registered(name: str) -> str:
    if name not in provider_names("agent"):
        raise ValueError("not a provider")
    return name


def _all_registered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_registered, names))


ProviderName = Annotated[
    str, AfterValidator(_registered), WithJsonSchema({"type": "string", "takes": f"one of {_NAMES}"})
]
"""A registered provider of agents."""

ProviderNames = Annotated[
    Items,
    AfterValidator(_all_registered),
    WithJsonSchema({"type": "array", "takes": f"a list separated by commas of {_NAMES}"}),
]
"""Several registered providers of agents."""
