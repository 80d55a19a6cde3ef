"""What a stage reports of each delivery: its metrics, and one line in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from prometheus_client import Counter, Histogram

from eai_common.stage.delivery import (
    Defer,
    Done,
    Failed,
    GiveUp,
    HandBack,
    Postpone,
    Retry,
    RoutineWait,
    Verdict,
    Work,
)
from eai_common.telemetry import Metrics, get_logger

__all__ = ["StageReporter"]

log = get_logger("eai.stage")

_OUTCOMES: dict[type[Verdict | None], str] = {
    Done: "done",
    Retry: "retried",
    Postpone: "retried",
    Failed: "dead_lettered",
    HandBack: "handed_back",
    Defer: "deferred",
    GiveUp: "dead_lettered",
    type(None): "handed_back",
}


class StageReporter:
    """Counts, times and logs the deliveries of one stage. Each child of a metric is looked up once."""

    def __init__(self, metrics: Metrics, stage: str, queue: str) -> None:
        self.delivered = metrics.delivered.labels(queue)
        self.busy_ratio = metrics.busy_ratio.labels(stage)
        self.published: Callable[[str], Counter] = cache(metrics.published.labels)
        self.errors: Callable[[str], Counter] = cache(lambda code: metrics.processing_errors.labels(stage, code))
        self._duration: Callable[[str], Histogram] = cache(
            lambda event_name: metrics.processing_duration.labels(event_name, stage)
        )
        self._processed: Callable[[str, str], Counter] = cache(
            lambda message_type, outcome: metrics.processed.labels(message_type, stage, outcome)
        )

    def report(self, work: Work, verdict: Verdict | None, line: Mapping[str, object], *, took_s: float) -> None:
        """Report a delivery that ended with `verdict`, None if unsettled; `line` is what was collected for the log."""
        outcome = _OUTCOMES[type(verdict)]
        self._duration(work.event_name).observe(took_s)
        self._processed(work.message_type, outcome).inc()
        fields = {**line, "outcome": outcome, "duration_ms": round(took_s * 1000, 1), **_fields(work, verdict)}
        if isinstance(verdict, GiveUp | Failed):
            log.warning("delivery_finished", **fields)
        elif isinstance(verdict, Defer) and isinstance(verdict.error, RoutineWait):
            log.debug("delivery_finished", **fields)
        else:
            log.info("delivery_finished", **fields)


def _fields(work: Work, verdict: Verdict | None) -> dict[str, object]:
    fields: dict[str, object] = {"event_name": work.event_name}
    if work.event is not None:
        fields["message_type"] = work.event.message_type
        fields["user_number"] = work.event.user_number  # the log masks it
    if work.is_repeated:
        fields["is_repeated"] = True
    if isinstance(verdict, Done):
        if verdict.emit is not None:
            fields["emitted"] = verdict.emit.name
    elif verdict is not None and not isinstance(verdict, HandBack):
        fields["error_code"], fields["error"] = verdict.error.error_code, str(verdict.error)
    if isinstance(verdict, Retry | Postpone | Defer):
        fields["delay_s"] = round(verdict.delay.total_seconds(), 3)
    return fields
