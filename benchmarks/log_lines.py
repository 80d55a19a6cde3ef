"""What a line of the log costs, as JSON: microseconds, and the ratio to `bare`, the same fields by orjson alone.

    .venv/bin/python benchmarks/log_lines.py [--lines 10] [--rounds 3000]

All write to /dev/null. The sides take turns, and each counts with its fastest round, so that a busy machine disturbs
none of them. `delivery` is the one line of a delivery at a stage, with what is bound redacted anew; `library` is a line
of the standard library's logging; `filtered` is below the level.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from eai_common.settings import TelemetrySettings
from eai_common.telemetry import configure_logging, get_logger, log_context

BOUND = {
    "stage": "agent-router",
    "queue": "eai.agent-router",
    "message_id": "019a3b7c-1b2c-7def-8123-123456789012",
    "attempt": 1,
    "correlation_id": "019a3b7c-1b2c-7def-8123-123456789013",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
}
OWN = {
    "user_number": "+5521999991234",
    "message_type": "text",
    "outcome": "done",
    "duration_ms": 812.4,
    "ai_provider": "google_agent_engine",
    "agent_ms": 800.1,
}
LINE = {
    "timestamp": "2026-01-01T10:30:00.123456Z",
    "level": "info",
    "logger": "eai.stage",
    "service": "agent-router",
    "worker_id": "agent-router-7d4b9c6f5d-x2x9z/1",
    "event": "delivery_done",
}
log = get_logger("eai.stage")
library = logging.getLogger("some.library")


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3000)
    given = parser.parse_args()
    with Path("/dev/null").open("wb") as output:
        configure_logging(TelemetrySettings.read({}), service="agent-router", output=output)

        def bare() -> None:
            output.write(orjson.dumps({**LINE, **BOUND, **OWN}) + b"\n")
            output.flush()

        sides = {"bare": bare, "delivery": delivery, "library": library_line, "filtered": filtered}
        fastest_us = dict.fromkeys(sides, float("inf"))
        for _ in range(given.rounds):
            for name, write in sides.items():
                fastest_us[name] = min(fastest_us[name], _took_us(write, given.lines))
    print(json.dumps({name: _result(us, fastest_us["bare"]) for name, us in fastest_us.items()}, indent=2))
    return 0


def delivery() -> None:
    """Write the line of one delivery."""
    with log_context(**BOUND):
        log.info("delivery_done", **OWN)


def library_line() -> None:
    """Write a line as a library does."""
    library.warning("connection %s lost", 7)


def filtered() -> None:
    """Write nothing."""
    log.debug("delivery_seen", **OWN)


def _took_us(write: Callable[[], None], lines: int) -> float:
    began = time.perf_counter()
    for _ in range(lines):
        write()
    return (time.perf_counter() - began) / lines * 1e6


def _result(took_us: float, bare_us: float) -> dict[str, float]:
    return {"us": round(took_us, 2), "times_bare": round(took_us / bare_us, 2)}


if __name__ == "__main__":
    sys.exit(main())
