"""Settings that name providers of agents: only those that are registered."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from eai_common.registry import list_provider_names
from eai_common.settings.base import Items

__all__ = ["ProviderName", "ProviderNames"]

_NAMES = ", ".join(list_provider_names("agent"))


def _check_registered(name: str) -> str:
    if name not in list_provider_names("agent"):
        raise ValueError("not a provider")
    return name


def _check_all_registered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_check_registered, names))


ProviderName = Annotated[
    str, AfterValidator(_check_registered), WithJsonSchema({"type": "string", "takes": f"one of {_NAMES}"})
]
"""A registered provider of agents."""

ProviderNames = Annotated[
    Items,
    AfterValidator(_check_all_registered),
    WithJsonSchema({"type": "array", "takes": f"a list separated by commas of {_NAMES}"}),
]
"""Several registered providers of agents."""
