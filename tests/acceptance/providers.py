"""Kind to providers: a limit that three replicas keep together, and a provider that hangs and troubles nobody else.

Five processes on private RabbitMQ and Redis servers, two more agent routers, and the sandbox. What was asked, and when,
is read from the sandbox's log of calls. Prints JSON; exits 1 when a promise was broken.

    .venv/bin/python tests/acceptance/providers.py limit [--messages 400] [--users 100]   # about five minutes
    .venv/bin/python tests/acceptance/providers.py hang                                   # about a minute
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from eai_common.testing import every, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.deployment import FiveProcesses, five_processes

_LIMIT = 100
_WINDOW_S = 60.0
_SETTINGS = {
    "LOG_LEVEL": "warning",
    "RATE_LIMIT_REQUESTS_PER_MINUTE": "1000000",
    "RATE_LIMIT_BURST": "1000000",
    "TASK_RESULT_TTL": "900",
    "TASK_STATUS_TTL": "900",
}


def main() -> int:
    """Run one of the two, print the JSON; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("limit", "hang"))
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--users", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "limit":
            report, kept = _limit(Path(folder), given.messages, given.users)
        else:
            report, kept = _hang(Path(folder))
    print(json.dumps({"acceptance": given.what, **report, "kept": kept}, indent=2))
    return 0 if all(kept.values()) else 1


# --- the limit -------------------------------------------------------------------------------------------------------


def _limit(folder: Path, messages: int, users: int) -> tuple[dict[str, Any], dict[str, bool]]:
    with five_processes(folder, **_SETTINGS, GOOGLE_API_RATE_LIMIT=str(_LIMIT)) as running:
        running.scale("agent-router", 3)
        began = time.monotonic()
        sent = _sent(running, messages, users)
        results = [running.client.answer(message_id, within_s=900) for message_id in sent]
        took_s = time.monotonic() - began
        calls = _calls(running, "agent_engine")
        metrics = "\n".join(running.metrics())
    at = sorted(call["at"] for call in calls)
    completed = sum(result["status"] == "completed" for result in results)
    report = {
        "messages": messages,
        "completed": completed,
        "calls": len(calls),
        "most_in_60_s": _most_in(at, _WINDOW_S),
        "out_of_order": _out_of_order(calls),
        "took_s": round(took_s, 1),
        "deferred_deliveries": _total(metrics, r'message_processing_total{[^}]*outcome="deferred"[^}]*} (\S+)'),
        "passed": _total(metrics, r"ordering_passed_total (\S+)"),
    }
    kept = {
        "never_more_than_allowed": report["most_in_60_s"] <= _LIMIT,
        "none_failed": completed == messages,
        "order_kept": report["out_of_order"] == 0,
    }
    return report, kept


def _sent(running: FiveProcesses, messages: int, users: int) -> list[str]:
    """Messages of all users in turn, as fast as they are accepted; a user's are numbered in their texts."""
    return [
        running.client.send(f"+5521{number % users:09d}", f"Pergunta {number // users}") for number in range(messages)
    ]


def _most_in(at: Sequence[float], window_s: float) -> int:
    return max(bisect.bisect_left(at, start + window_s) - number for number, start in enumerate(at))


def _out_of_order(calls: Sequence[dict[str, Any]]) -> int:
    by_user: dict[str, list[int]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call["at"]):
        by_user[call["thread_id"]].append(int(call["content"].rsplit(" ", 1)[1]))
    return sum(before > after for asked in by_user.values() for before, after in pairwise(asked))


# --- a provider that hangs -------------------------------------------------------------------------------------------

_TIMEOUT_S = 6  # of a turn, so that a hanging provider is found out within the run
_HANGING, _WELL = "openai", "google_agent_engine"


def _hang(folder: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    settings = {
        **_SETTINGS,
        "WORKER_TIMEOUT": f"{_TIMEOUT_S}s",
        "AGENT_BREAKER_FAILURES": "3",
        "AGENT_BREAKER_OPEN": "3s",
        "RABBITMQ_RETRY_DELAY": "3s",
        "MAX_PARALLEL": "10",
    }
    with five_processes(folder, **settings) as running:
        running.sandbox.order_fault(target="agent_engine", kind="latency", seconds=0.5)
        _latencies_s(running, 10, _no_load)  # warm
        alone = _latencies_s(running, 60, _no_load)
        running.sandbox.order_fault(target="openai", kind="hang")
        waiting: list[str] = []
        beside = _latencies_s(running, 60, lambda number: _load(running, number, waiting))
        opened = _eventually_opened(running)
        running.sandbox.clear_faults()
        results = [running.client.answer(message_id, within_s=180) for message_id in waiting]
        closed = _eventually_closed(running)
        metrics = _router_metrics(running)
    p95_alone, p95_beside = (statistics.quantiles(each, n=100)[94] for each in (alone, beside))
    completed = sum(result["status"] == "completed" for result in results)
    report = {
        "p95_s_of_b_alone": round(p95_alone, 3),
        "p95_s_of_b_while_a_hangs": round(p95_beside, 3),
        "ratio": round(p95_beside / p95_alone, 3),
        "messages_to_a": len(waiting),
        "of_which_completed_afterwards": completed,
        "openings": _total(metrics, rf'circuit_breaker_openings_total{{service="{_HANGING}"}} (\S+)'),
    }
    kept = {
        "p95_within_1.2": report["ratio"] <= 1.2,
        "breaker_opened": opened,
        "breaker_closed_after_probes": closed,
        "none_of_a_failed": completed == len(waiting),
    }
    return report, kept


def _no_load(number: int) -> None:
    return


def _load(running: FiveProcesses, number: int, sent: list[str]) -> None:
    """Messages to the provider that hangs: more of them than it has places."""
    if number < 20:
        sent += [running.client.send(f"+5531{number:04d}{n:05d}", "Oi", provider=_HANGING) for n in range(2)]


def _latencies_s(running: FiveProcesses, messages: int, before: Callable[[int], None]) -> list[float]:
    """How long messages to the provider that is well take, one every 100 ms."""
    took = asyncio.run(_paced(running, messages, before))
    assert len(took) == messages, "a message to the provider that is well was not answered"
    return took


async def _paced(running: FiveProcesses, messages: int, before: Callable[[int], None]) -> list[float]:
    took: list[float] = []
    async with asyncio.TaskGroup() as group:
        async for number in every(timedelta(milliseconds=100)):
            if number == messages:
                break
            await asyncio.to_thread(before, number)
            group.create_task(_ask(running, number, took))
    return took


async def _ask(running: FiveProcesses, number: int, took: list[float]) -> None:
    url, body = running.client.ingress_url, {"user_number": f"+5541{number:09d}", "message": "Oi", "provider": _WELL}
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        posted = (await http.post(f"{url}/api/v1/message/webhook/user", json=body)).raise_for_status().json()
        query = {"message_id": posted["message_id"], "wait": 20}
        found = await http.get(f"{running.client.poller_url}/api/v1/message/response", params=query)
    if found.status_code == 200 and found.json()["status"] == "completed":
        took.append(time.monotonic() - began)


def _router_metrics(running: FiveProcesses) -> str:
    return httpx.get(f"{running.url('agent-router')}/metrics", trust_env=False).text


def _eventually_opened(running: FiveProcesses) -> bool:
    return _eventually_in(running, "open", within_s=30)


def _eventually_closed(running: FiveProcesses) -> bool:
    return _eventually_in(running, "closed", within_s=60)


def _eventually_in(running: FiveProcesses, state: str, *, within_s: float) -> bool:
    line = f'circuit_breaker_state{{service="{_HANGING}",state="{state}"}} 1.0'
    try:
        wait_until(lambda: line in _router_metrics(running), within_s=within_s, what=line)
    except AssertionError:
        return False
    return True


def _calls(running: FiveProcesses, target: str) -> list[dict[str, Any]]:
    response = httpx.get(f"{running.sandbox.url}/sandbox/calls", params={"target": target}, trust_env=False)
    found: list[dict[str, Any]] = response.json()["calls"]
    return [{**call, "at": datetime.fromisoformat(call["at"]).timestamp()} for call in found]


def _total(metrics: str, pattern: str) -> float:
    return sum(float(value) for value in re.findall(f"^{pattern}$", metrics, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
