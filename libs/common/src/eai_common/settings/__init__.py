"""Settings: read once at start, typed, validated, documented. No other module reads the environment."""

from eai_common.settings.base import Duration, Group, Items, SettingsError, load
from eai_common.settings.describe import SettingDescription, describe
from eai_common.settings.groups import (
    BrokerSettings,
    HttpSettings,
    OrderingSettings,
    ProcessSettings,
    RedisSettings,
    SandboxHost,
    TaskSettings,
    TelemetrySettings,
    WorkerSettings,
)

__all__ = [
    "BrokerSettings",
    "Duration",
    "Group",
    "HttpSettings",
    "Items",
    "OrderingSettings",
    "ProcessSettings",
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
