"""How the answers of providers are read: leniently, and with one error for a shape that is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from eai_agent_router.errors import AgentBadResponse

__all__ = ["ITEMS", "OBJECT", "Lenient", "TurnStamp", "explain_shape"]


class Lenient(BaseModel):
    """A part of an answer; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


OBJECT = BeforeValidator(lambda value: {} if value is None else value)
"""Reads null as an object without fields."""

ITEMS = BeforeValidator(lambda value: [] if value is None else value)
"""Reads null as an empty list."""


@dataclass(frozen=True, slots=True)
class TurnStamp:
    """What every message of a turn carries."""

    message_id: str
    agent_id: str
    received_at: datetime


def explain_shape(error: ValidationError, name: str, answer: object) -> AgentBadResponse:
    """Return the error for an answer of an unknown shape. It names where the shape differs, not what is there."""
    places = sorted({".".join(map(str, detail["loc"][:3])) for detail in error.errors(include_input=False)})
    return AgentBadResponse(f"{name} has an unknown shape at: {', '.join(places[:5])}", answer=answer)
