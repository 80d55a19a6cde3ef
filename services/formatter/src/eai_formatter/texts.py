"""The words for failures: read from `texts.toml`, which anyone may edit."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = ["FailureText", "FailureTexts"]


class FailureText(BaseModel):
    """What the client is told (English) and what the user reads (Portuguese)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    error: str
    text: str


class FailureTexts:
    """The words by error code."""

    def __init__(self, by_code: dict[str, FailureText]) -> None:
        self._by_code = by_code
        self._default = by_code["default"]

    @classmethod
    def packaged(cls) -> FailureTexts:
        """The texts of `texts.toml`."""
        source = files("eai_formatter").joinpath("texts.toml").read_text(encoding="utf-8")
        return cls(TypeAdapter(dict[str, FailureText]).validate_python(tomllib.loads(source)))

    def of(self, error_code: str) -> FailureText:
        """The words for a code, the default's for one that has none."""
        return self._by_code.get(error_code, self._default)
