"""The texts for failures, read from `texts.toml`. Edit that file to change them."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = ["FailureText", "FailureTexts"]


class FailureText(BaseModel):
    """The error for the client (English) and the text for the user (Portuguese)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    error: str
    text: str


class FailureTexts:
    """The texts by error code."""

    def __init__(self, by_code: dict[str, FailureText]) -> None:
        self._by_code = by_code
        self._default = by_code["default"]

    @classmethod
    def packaged(cls) -> FailureTexts:
        """Read `texts.toml`."""
        source = files("eai_formatter").joinpath("texts.toml").read_text(encoding="utf-8")
        return cls(TypeAdapter(dict[str, FailureText]).validate_python(tomllib.loads(source)))

    def of(self, error_code: str) -> FailureText:
        """The text for a code; the default text for an unknown code."""
        return self._by_code.get(error_code, self._default)
