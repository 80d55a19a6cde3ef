"""The runtime that turns a plain async handler into a service."""

from eai_common.stage.context import Attempt, StageContext
from eai_common.stage.journal import Journal
from eai_common.stage.stage import Stage, StageParts, run_stage
from eai_common.stage.work import On, on

__all__ = ["Attempt", "Journal", "On", "Stage", "StageContext", "StageParts", "on", "run_stage"]
