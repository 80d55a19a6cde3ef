"""The runtime that turns a plain async handler into a service."""

from eai_common.stage.context import Attempt, StageContext

__all__ = ["Attempt", "StageContext"]
