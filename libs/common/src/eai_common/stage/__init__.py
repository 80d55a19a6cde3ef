"""The runtime that turns a plain async handler into a service."""

from eai_common.stage.context import Attempt, StageContext
from eai_common.stage.journal import Journal
from eai_common.stage.stage import Stage, StageParts, run_stage
from eai_common.stage.turns import Ends, NotYourTurn, Turns
from eai_common.stage.waking import MailboxEnds, parked, unparked
from eai_common.stage.work import On, Work, on

__all__ = [
    "Attempt",
    "Ends",
    "Journal",
    "MailboxEnds",
    "NotYourTurn",
    "On",
    "Stage",
    "StageContext",
    "StageParts",
    "Turns",
    "Work",
    "on",
    "parked",
    "run_stage",
    "unparked",
]
