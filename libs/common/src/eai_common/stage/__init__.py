"""The runtime that turns a plain async handler into a service."""

from eai_common.stage.delivery import (
    Defer,
    Done,
    Failed,
    HandBack,
    Postpone,
    Process,
    RoutineWait,
    Verdict,
    Work,
    add_to_history,
    attempt_headers,
    journey_headers,
)
from eai_common.stage.handler import Attempt, EventHandler, ProgressLog, StageContext, handler_for
from eai_common.stage.runtime import Runtime, Stage, StageResources, Worker, run_best_effort, run_shielded
from eai_common.stage.settling import failure_of, publish_until_confirmed, reason_of
from eai_common.stage.steps import PoisonMessage, StageTimeout, UnexpectedError, decode_delivery, run_stage

__all__ = [
    "Attempt",
    "Defer",
    "Done",
    "EventHandler",
    "Failed",
    "HandBack",
    "PoisonMessage",
    "Postpone",
    "Process",
    "ProgressLog",
    "RoutineWait",
    "Runtime",
    "Stage",
    "StageContext",
    "StageResources",
    "StageTimeout",
    "UnexpectedError",
    "Verdict",
    "Work",
    "Worker",
    "add_to_history",
    "attempt_headers",
    "decode_delivery",
    "failure_of",
    "handler_for",
    "journey_headers",
    "publish_until_confirmed",
    "reason_of",
    "run_best_effort",
    "run_shielded",
    "run_stage",
]
