"""JSON as a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["Json", "JsonObject"]

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JsonObject = Mapping[str, Json]
