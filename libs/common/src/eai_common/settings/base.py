"""How a settings group is read: environment variables, `NAME_FILE` for secrets, and errors that help.

A service composes groups in a frozen dataclass; `load` reads them all and reports every mistake at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar, get_type_hints

from pydantic import BeforeValidator, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

__all__ = [
    "AllowedNetworks",
    "Duration",
    "Group",
    "GroupSet",
    "Items",
    "SettingsError",
    "list_groups",
    "load",
    "name_variable",
]

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", re.IGNORECASE | re.ASCII)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SettingsT = TypeVar("SettingsT")
GroupT = TypeVar("GroupT", bound="Group")
Readable: TypeAlias = "Group | GroupSet"


class SettingsError(Exception):
    """One line for each variable that is wrong: its name, what it got and what it takes."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def _parse_duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("not a duration")
    try:
        return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2].lower()])
    except OverflowError as error:
        raise ValueError("longer than a duration can be") from error


def _parse_items(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(item.strip() for item in value.split(",") if item.strip())


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    WithJsonSchema({"type": "string", "takes": 'a duration such as 300, "30s", "5m" or "24h"'}),
]
"""A timedelta; a bare number counts seconds."""

Items = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_parse_items),
    WithJsonSchema({"type": "array", "takes": "a list separated by commas"}),
]
"""Several strings, separated by commas."""


def _parse_networks(value: object) -> object:
    parts = _parse_items(value)
    if not isinstance(parts, Sequence):
        raise ValueError("not a list")  # pydantic reports ValueError, and lets TypeError through
    return tuple(ip_network(part) if isinstance(part, str) else part for part in parts)


AllowedNetworks = Annotated[
    tuple[IPv4Network | IPv6Network, ...],
    NoDecode,
    BeforeValidator(_parse_networks),
    WithJsonSchema({"type": "array", "takes": "networks such as 127.0.0.0/8, separated by commas"}),
]
"""Networks of IP addresses, separated by commas."""


class Group(BaseSettings):
    """Settings that belong together; a field's variable is `env_prefix` and its name, or its `validation_alias`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=False, env_ignore_empty=True)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the group. Raises SettingsError."""
        mistakes: list[str] = []
        values: dict[str, Any] = {}
        source = _Source(cls, _read_files(cls, environ, mistakes))
        try:
            values = source()
            group = cls.model_validate(values)
        except ValidationError as error:
            mistakes += [_describe_mistake(cls, detail) for detail in error.errors()]
        if mistakes:
            raise SettingsError(mistakes)
        return group

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read` is given counts: a group made in a test must not see the machine's environment."""
        return (init_settings,)


class GroupSet:
    """Groups of which only the running process knows how many there are, by name. `members` says which."""

    def __init__(self, groups: Mapping[str, Readable]) -> None:
        self._groups = dict(groups)

    @classmethod
    def members(cls) -> Mapping[str, type[Group]]:
        """The groups, by name."""
        raise NotImplementedError

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read every group. Raises SettingsError with all mistakes of all groups."""
        return cls(_read_all(cls.members(), environ))

    def of(self, name: str, kind: type[GroupT]) -> GroupT:
        """The group of that name. Raises KeyError if there is none, TypeError if it is no `kind`."""
        group = self._groups[name]
        if not isinstance(group, kind):
            raise TypeError(f"the settings of {name} are no {kind.__name__}")
        return group


class _Source(EnvSettingsSource):
    """pydantic-settings' own reading of variables, from a mapping instead of the process."""

    def __init__(self, group: type[Group], environ: Mapping[str, str]) -> None:
        self._given = environ
        super().__init__(group)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._given.items() if value != ""}


def load(settings: type[SettingsT], environ: Mapping[str, str]) -> SettingsT:
    """Read every group of a frozen dataclass of groups. Raises SettingsError with all mistakes of all groups."""
    return settings(**_read_all(list_groups(settings), environ))


def list_groups(settings: type[object]) -> Mapping[str, type[Readable]]:
    """The groups of a frozen dataclass of groups, by their fields."""
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in fields(settings)}  # type: ignore[arg-type]  # a dataclass


def _read_all(kinds: Mapping[str, type[Readable]], environ: Mapping[str, str]) -> dict[str, Readable]:
    mistakes: list[str] = []
    groups: dict[str, Readable] = {}
    for name, kind in kinds.items():
        try:
            groups[name] = kind.read(environ)
        except SettingsError as error:
            mistakes += [line for line in error.mistakes if line not in mistakes]
    if mistakes:
        raise SettingsError(mistakes)
    return groups


def name_variable(group: type[Group], field_name: str) -> str:
    """The environment variable that a field is read from."""
    alias = group.model_fields[field_name].validation_alias
    if isinstance(alias, str):
        return alias
    return f"{group.model_config.get('env_prefix', '')}{field_name}".upper()


def is_secret(field: FieldInfo) -> bool:
    """Whether the field's value must never be shown."""
    return "SecretStr" in str(field.annotation)


def describe_values(group: type[Group], field_name: str) -> str:
    """What the variable takes, in words."""
    schema = group.model_json_schema(by_alias=False)["properties"][field_name]
    return _describe_schema(schema)


def _describe_schema(schema: dict[str, Any]) -> str:
    if "takes" in schema:
        return str(schema["takes"])
    if "anyOf" in schema:
        return " or ".join(_describe_schema(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(str(option) for option in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(
        schema.get("type", ""), "text"
    )
    if bounds := _describe_bounds(schema):
        return f"{kind} {bounds}"
    if schema.get("pattern"):
        return f"text that matches {schema['pattern']}"
    return kind


def _describe_bounds(schema: dict[str, Any]) -> str:
    low, above, high = (schema.get(bound) for bound in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f"above {above}" if high is None else f"above {above}, up to {high}"
    if low is not None:
        return f"of at least {low}" if high is None else f"from {low} to {high}"
    return "" if high is None else f"of at most {high}"


def _read_files(group: type[Group], environ: Mapping[str, str], mistakes: list[str]) -> Mapping[str, str]:
    """The environment with each `NAME_FILE` of a secret replaced by the file's content."""
    found = dict(environ)
    for field_name, field in group.model_fields.items():
        name = name_variable(group, field_name)
        path = environ.get(f"{name}_FILE", "")
        if not path or not is_secret(field):
            continue
        try:
            found[name] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            mistakes.append(f'{name}_FILE: got "{path}", takes the path of a readable file ({error.strerror})')
        except UnicodeDecodeError:
            mistakes.append(f'{name}_FILE: got "{path}", takes the path of a readable file (not text in UTF-8)')
    return found


def _describe_mistake(group: type[Group], detail: Any) -> str:
    if not detail["loc"]:
        return str(detail["msg"]).removeprefix("Value error, ")
    field_name = _find_field(group, str(detail["loc"][0]))
    name = name_variable(group, field_name)
    if detail["type"] == "missing":
        return f"{name}: is required, takes {describe_values(group, field_name)}"
    got = "a value that is not shown" if is_secret(group.model_fields[field_name]) else f'"{detail["input"]}"'
    return f"{name}: got {got}, takes {describe_values(group, field_name)}"


def _find_field(group: type[Group], located: str) -> str:
    for field_name in group.model_fields:
        if located.lower() in (field_name.lower(), name_variable(group, field_name).lower()):
            return field_name
    raise KeyError(located)
