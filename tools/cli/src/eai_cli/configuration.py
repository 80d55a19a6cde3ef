"""`./eai config`: lists the settings of all services, checks them, and writes `docs/configuration.md`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from eai_cli.services import DEFINITIONS
from eai_common.process import load_all
from eai_common.settings import SettingDescription, SettingsError, describe

__all__ = ["Setting", "all_settings", "as_markdown", "run_config"]

_INTRODUCTION = """# Configuration

Each service reads its settings from environment variables at its start. It refuses to start with an invalid value: the
error names the variable, the value and the allowed values. For a secret `NAME`, `NAME_FILE` may name a file with the
value. Durations take 300, "30s", "5m" or "24h"; a number without a unit means seconds. `./eai config --check` reads the
environment like the services and reports all errors at once.

`./eai config --markdown > docs/configuration.md` generates this page from the code. A test checks that it is current.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable and the services that read it."""

    description: SettingDescription
    services: tuple[str, ...]


def all_settings() -> list[Setting]:
    """Every variable once, in the order of the groups."""
    descriptions: dict[str, SettingDescription] = {}
    readers: dict[str, dict[str, None]] = {}  # ordered; a service may read a variable in several groups
    for definition in DEFINITIONS:
        for description in describe(definition.settings):
            descriptions.setdefault(description.variable, description)
            readers.setdefault(description.variable, {})[definition.name] = None
    return [Setting(description, tuple(readers[name])) for name, description in descriptions.items()]


def as_markdown() -> str:
    """`docs/configuration.md`."""
    parts = [_INTRODUCTION]
    group = ""
    for setting in all_settings():
        described = setting.description
        if described.group != group:
            group = described.group
            parts.append(f"\n## {group}\n\n| variable | takes | default | read by | meaning |\n|---|---|---|---|---|\n")
        parts.append(
            f"| `{described.variable}`{' (secret)' if described.is_secret else ''} | {_cell(described.takes)} | "
            f"{_default(described)} | {_readers(setting)} | {_cell(described.description)} |\n"
        )
    return "".join(parts)


def run_config(*, check: bool, markdown: bool) -> int:
    """List or check the settings; gives the exit code, 2 if a setting is invalid."""
    if markdown:
        sys.stdout.write(as_markdown())
        return 0
    if check:
        return _check()
    table = Table("variable", "takes", "default", "read by", "meaning")
    for setting in all_settings():
        described = setting.description
        default = "required" if described.default is None else described.default
        table.add_row(described.variable, described.takes, default, _readers(setting), described.description)
    Console().print(table)
    return 0


def _check() -> int:
    try:
        load_all(DEFINITIONS, os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("all settings are valid\n")
    return 0


def _default(described: SettingDescription) -> str:
    if described.default is None:
        return "required"
    return f"`{described.default}`" if described.default else ""


def _readers(setting: Setting) -> str:
    return "all" if len(setting.services) == len(DEFINITIONS) else ", ".join(setting.services)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
