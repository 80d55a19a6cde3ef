"""Settings: typed groups, read once when a process starts, validated and documented."""

from eai_common.settings.base import AllowedNetworks, Duration, Group, GroupSet, Items, SettingsError, load
from eai_common.settings.describe import SettingDescription, describe
from eai_common.settings.groups import (
    BrokerSettings,
    ProcessSettings,
    RedisSettings,
    SandboxHost,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
)
from eai_common.settings.http import HttpSettings, JwtSettings, SecuritySettings
from eai_common.settings.providers import ProviderName, ProviderNames

__all__ = [
    "AllowedNetworks",
    "BrokerSettings",
    "Duration",
    "Group",
    "GroupSet",
    "HttpSettings",
    "Items",
    "JwtSettings",
    "ProcessSettings",
    "SecuritySettings",
    "ProviderName",
    "ProviderNames",
    "RedisSettings",
    "SandboxHost",
    "SettingDescription",
    "SettingsError",
    "TaskSettings",
    "TelemetrySettings",
    "WorkerSettings",
    "describe",
    "load",
]
