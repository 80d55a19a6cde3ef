"""Settings as documentation: what `./eai config` shows and `docs/configuration.md` is made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from eai_common.settings.base import Group, GroupSet, describe_values, is_secret, list_groups, name_variable

__all__ = ["SettingDescription", "describe"]


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One variable, in words."""

    variable: str
    group: str
    takes: str
    default: str | None  # None: it is required
    description: str
    is_secret: bool


def describe(settings: type[object]) -> list[SettingDescription]:
    """Every variable of a service's settings, in the order of its groups."""
    return [
        description
        for field in list_groups(settings).values()
        for group in (field.members().values() if issubclass(field, GroupSet) else [field])
        for description in _describe_group(group)
    ]


def _describe_group(group: type[Group]) -> list[SettingDescription]:
    return [
        SettingDescription(
            variable=name_variable(group, name),
            group=group.__name__.removesuffix("Settings"),
            takes=describe_values(group, name),
            default=None if field.is_required() else _format_default(field.get_default(call_default_factory=True)),
            description=field.description or "",
            is_secret=is_secret(field),
        )
        for name, field in group.model_fields.items()
    ]


def _format_default(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value)
