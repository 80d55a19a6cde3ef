"""The runtime that turns a plain async handler into a service."""

from eai_common.stage.delivery import Work
from eai_common.stage.handler import Attempt, EventHandler, ProgressLog, StageContext, handler_for
from eai_common.stage.ordering import EndObserver, MailboxEndObserver, OutOfOrder, UserOrdering, park, unpark
from eai_common.stage.runtime import Stage, StageResources
from eai_common.stage.steps import run_stage

__all__ = [
    "Attempt",
    "EndObserver",
    "EventHandler",
    "MailboxEndObserver",
    "OutOfOrder",
    "ProgressLog",
    "Stage",
    "StageContext",
    "StageResources",
    "UserOrdering",
    "Work",
    "handler_for",
    "park",
    "run_stage",
    "unpark",
]
