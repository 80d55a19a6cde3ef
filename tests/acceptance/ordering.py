"""One user's messages in order: many users, three agent routers, and one of those killed again and again.

Five processes on private RabbitMQ and Redis servers, two more agent routers, and a sandbox agent with random latency
that fails a tenth of the questions once. A share of the messages is published twice, and every few seconds one agent
router is killed with -9 and started anew. Prints JSON; exits 1 when a promise was broken.

    .venv/bin/python tests/acceptance/ordering.py [--messages 2000] [--users 100] [--merge]

With --merge, users write in bursts of two to six, which must be answered by one call each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from eai_common.clock import SystemClock
from eai_common.testing import RANDOM, every

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.deployment import FiveProcesses, five_processes

from eai_common.broker import Outgoing
from eai_common.broker.rabbitmq import RabbitSettings, open_rabbitmq
from eai_common.messages import MessageText, encode
from eai_common.settings import RedisSettings, TaskSettings
from eai_common.store import TaskStore, open_redis
from eai_common.topology import Topology

_ROUTERS = ("agent-router", "agent-router-2", "agent-router-3")
_ENGINE = "agent_engine"
_SETTLED = timedelta(seconds=1)  # so long after an answer a kill may still lose its record
_SETTINGS = {
    "LOG_LEVEL": "warning",
    "GOOGLE_API_RATE_LIMIT": "0",
    "RATE_LIMIT_REQUESTS_PER_MINUTE": "1000000",
    "RATE_LIMIT_BURST": "1000000",
    "RABBITMQ_PREFETCH_COUNT": "40",
    "TASK_RESULT_TTL": "900",
    "TASK_STATUS_TTL": "900",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to the gateway."""

    messages: int
    users: int
    kill_every_s: float
    latency_s: tuple[float, float]
    is_merging: bool
    seed: int

    @property
    def bursts(self) -> list[list[int]]:
        """How many messages each user sends in each burst; a burst of one when nothing is merged."""
        rng, each = random.Random(self.seed), self.messages // self.users
        found: list[list[int]] = []
        for _ in range(self.users):
            sizes: list[int] = []
            while sum(sizes) < each:
                sizes.append(min(rng.randint(2, 6), each - sum(sizes)) if self.is_merging else 1)
            found.append(sizes)
        return found


@dataclass(slots=True)
class Sent:
    """A message that was accepted."""

    user: str
    burst: int
    number: int
    text: str
    previous: str | None
    message_id: str
    accepted_at: datetime


@dataclass(slots=True)
class Run:
    """What happened."""

    sent: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    kills: list[tuple[datetime, datetime]] = field(default_factory=list)  # each began and was over
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    threads: dict[str, list[list[str]]] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)  # when each result was stored
    took_s: float = 0.0

    @property
    def all(self) -> list[Sent]:
        return [message for messages in self.sent.values() for message in messages]


def main() -> int:
    """Run the plan and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--kill-every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--latency", type=float, nargs=2, default=(0.1, 1.0), metavar="SECONDS")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    plan = Plan(given.messages, given.users, given.kill_every, tuple(given.latency), given.merge, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        report = measured(plan, Path(folder))
    print(json.dumps(report, indent=2))
    return 1 if report["broken"] else 0


def measured(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run the plan against a gateway of its own; `broken` names the promises that were not kept."""
    merging = {"DOUBLE_TEXTING": "merge", "MERGE_WINDOW": "1s"} if plan.is_merging else {}
    with five_processes(folder, **_SETTINGS, **merging) as gateway:
        gateway.scale("agent-router", len(_ROUTERS))
        run = asyncio.run(_run(plan, gateway))
    return _report(plan, run)


async def _run(plan: Plan, gateway: FiveProcesses) -> Run:
    run = Run()
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as http:
        await _order_troubles(plan, gateway, http)
        began = time.monotonic()
        done = asyncio.Event()
        killing = asyncio.create_task(_kill_again_and_again(plan, gateway, run, done))
        try:
            await asyncio.gather(*(_one_user(plan, gateway, http, run, user) for user in range(plan.users)))
            if not plan.is_merging:
                await _publish_some_twice(plan, gateway, run)
            await _all_results(gateway, http, run)
        finally:
            done.set()
            await killing
        run.took_s = time.monotonic() - began
        run.finished = await _finished(gateway, run)
        run.calls = (await http.get(f"{gateway.sandbox.url}/sandbox/calls", params={"target": _ENGINE})).json()["calls"]
        run.threads = (await http.get(f"{gateway.sandbox.url}/sandbox/threads")).json()["threads"]
    return run


def _texts(plan: Plan) -> list[str]:
    return [f"[{user:03d}:{number:03d}]" for user in range(plan.users) for number in range(plan.messages // plan.users)]


async def _order_troubles(plan: Plan, gateway: FiveProcesses, http: httpx.AsyncClient) -> None:
    """A latency of its own for each question, and a 503 at the first try of every tenth."""
    rng = random.Random(plan.seed)
    for text in _texts(plan):
        seconds = round(rng.uniform(*plan.latency_s), 3)
        fault = {"target": _ENGINE, "kind": "latency", "seconds": seconds, "match": text}
        if rng.random() < 0.1:
            fault |= {"kind": "status", "status": 503, "times": 1}
        (await http.put(f"{gateway.sandbox.url}/sandbox/faults", json=fault)).raise_for_status()


async def _one_user(plan: Plan, gateway: FiveProcesses, http: httpx.AsyncClient, run: Run, number: int) -> None:
    rng = random.Random(plan.seed * 1000 + number)
    user = f"+55219{number:08d}"
    numbers = itertools.count()
    pace = every(timedelta(seconds=rng.uniform(0, 0.2)))
    for burst, size in enumerate(plan.bursts[number]):
        for _ in range(size):
            await _send(gateway, http, run, user, burst, number, next(numbers))
        if plan.is_merging:
            await _answered(gateway, http, run, run.sent[user][-1])
        else:
            await anext(pace)


async def _send(
    gateway: FiveProcesses, http: httpx.AsyncClient, run: Run, user: str, burst: int, user_number: int, number: int
) -> None:
    text = f"[{user_number:03d}:{number:03d}] Qual o horário?"
    previous = f"Antes de {text}" if number % 5 == 0 else None
    body = {"user_number": user, "message": text} | ({"previous_message": previous} if previous else {})
    accepted = await http.post(f"{gateway.client.ingress_url}/api/v1/message/webhook/user", json=body)
    accepted.raise_for_status()
    message_id = accepted.json()["message_id"]
    run.sent[user].append(Sent(user, burst, number, text, previous, message_id, datetime.now(UTC)))


async def _publish_some_twice(plan: Plan, gateway: FiveProcesses, run: Run) -> None:
    """As a broker may do it: the same message again, though nobody was killed."""
    settings = RabbitSettings(url=gateway.rabbitmq.url, topology=Topology(), connection_name="acceptance")
    async with open_rabbitmq(settings, SystemClock(), RANDOM) as broker:
        for message in random.Random(plan.seed).sample(run.all, len(run.all) // 20):
            event = MessageText(
                message_id=message.message_id,
                user_number=message.user,
                timestamp=message.accepted_at,
                message=message.text,
                previous_message=message.previous,
            )
            await broker.publish(Outgoing(event.name, encode(event), event.message_id, event.name, event.timestamp))


async def _kill_again_and_again(plan: Plan, gateway: FiveProcesses, run: Run, done: asyncio.Event) -> None:
    first = asyncio.get_running_loop().time()
    for number, router in enumerate(itertools.cycle(_ROUTERS), start=1):
        try:
            async with asyncio.timeout_at(first + number * plan.kill_every_s):
                await done.wait()
            return
        except TimeoutError:
            began = datetime.now(UTC)
            await asyncio.to_thread(gateway.end, router, signal.SIGKILL)
            run.kills.append((began, datetime.now(UTC)))
            await asyncio.to_thread(gateway.start, router)


async def _all_results(gateway: FiveProcesses, http: httpx.AsyncClient, run: Run) -> None:
    await asyncio.gather(*(_users_results(gateway, http, run, messages) for messages in run.sent.values()))


async def _users_results(gateway: FiveProcesses, http: httpx.AsyncClient, run: Run, messages: Sequence[Sent]) -> None:
    for message in messages:
        await _answered(gateway, http, run, message)


async def _answered(gateway: FiveProcesses, http: httpx.AsyncClient, run: Run, message: Sent) -> None:
    """Poll until the result is there; a message that is not answered within four minutes counts as lost."""
    url, deadline = f"{gateway.client.poller_url}/api/v1/message/response", time.monotonic() + 240
    async for _ in every(timedelta(seconds=0.5)):
        response = await http.get(url, params={"message_id": message.message_id})
        if response.status_code == 200:
            run.results[message.message_id] = response.json()
        if response.status_code == 200 or time.monotonic() > deadline:
            return


async def _finished(gateway: FiveProcesses, run: Run) -> dict[str, str]:
    async with open_redis(RedisSettings.read({"REDIS_URL": gateway.redis.url})) as redis:
        tasks = TaskStore(redis, TaskSettings())
        views = {message.message_id: await tasks.read(message.message_id) for message in run.all}
    return {
        message_id: view.status.fields["finished_at"]
        for message_id, view in views.items()
        if view.status is not None and "finished_at" in view.status.fields
    }


def _report(plan: Plan, run: Run) -> dict[str, Any]:
    asked = _asked(run)
    twice, explained = _asked_twice(run, asked)
    gaps, calm_gaps = _gaps(run, asked)
    lost = [message.text for message in run.all if message.message_id not in run.results]
    not_completed = _states(run, "failed")
    previous = _previous_counts(run)
    out_of_order = _out_of_order(run, asked)
    broken = {
        "lost": lost,
        "not_completed": not_completed,
        "asked_out_of_order": out_of_order,
        "answered_out_of_order": _answered_out_of_order(run),
        "asked_twice_without_a_kill": sorted(twice - explained),
        "previous_message_not_once": sorted(text for text, count in previous.items() if count != 1),
        **(_merge_breaks(run) if plan.is_merging else {}),
    }
    p95 = _p95(calm_gaps)
    return {
        "acceptance": "merging" if plan.is_merging else "ordering",
        "messages": len(run.all),
        "users": plan.users,
        "took_s": round(run.took_s, 1),
        "kills": len(run.kills),
        "calls": len(run.calls),
        "refused_by_order": sum(call["outcome"].startswith("refused") for call in run.calls),
        "asked_again_after_a_death_in_mid_call": len(explained),
        "previous_messages": len(previous),
        "next_starts_after_head_ends_ms": {
            "undisturbed_p50": _ms(statistics.median(calm_gaps)) if calm_gaps else None,
            "undisturbed_p95": _ms(p95),
            "all_p95": _ms(_p95(gaps)),
            "measured": len(calm_gaps),
        },
        "broken": {name: found for name, found in broken.items() if found},
    }


def _asked(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The calls by message id, without those that the sandbox was told to refuse."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in run.calls:
        if not call["outcome"].startswith("refused"):
            found[call["message_id"]].append(call)
    return found


def _asked_twice(run: Run, asked: dict[str, list[dict[str, Any]]]) -> tuple[set[str], set[str]]:
    """Which messages the agent was asked for twice, and those of them whose replica may have died in the middle."""
    twice = {message_id: calls for message_id, calls in asked.items() if len(calls) > 1}
    explained = {message_id for message_id, calls in twice.items() if all(_was_cut(run, call) for call in calls[:-1])}
    return set(twice), explained


def _was_cut(run: Run, call: dict[str, Any]) -> bool:
    ended = _time(call["ended_at"] or call["at"]) + _SETTLED
    return any(_time(call["at"]) <= dead and dying <= ended for dying, dead in run.kills)


def _out_of_order(run: Run, asked: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Neighbours of which the later one was asked before the earlier one's last call had ended."""
    found = []
    for messages in run.sent.values():
        turns = [message for message in messages if message.message_id in asked]
        for earlier, later in itertools.pairwise(turns):
            ended, began = asked[earlier.message_id][-1]["ended_at"], asked[later.message_id][0]["at"]
            if ended is None or _time(began) < _time(ended):
                found.append(f"{later.text} before {earlier.text}")
    return found


def _answered_out_of_order(run: Run) -> list[str]:
    """Neighbours of which the later one's result was stored first."""
    return [
        f"{later.text} before {earlier.text}"
        for messages in run.sent.values()
        for earlier, later in itertools.pairwise(messages)
        if run.finished.get(later.message_id, "") < run.finished.get(earlier.message_id, "")
    ]


def _gaps(run: Run, asked: dict[str, list[dict[str, Any]]]) -> tuple[list[float], list[float]]:
    """From a head's end to the next one's start, in seconds, where the next one was waiting: all, and those near which
    nothing was killed or refused."""
    refused = {call["message_id"] for call in run.calls if call["outcome"].startswith("refused")}
    everything, calm = [], []
    for messages in run.sent.values():
        turns = [message for message in messages if message.message_id in asked]
        for head, following in itertools.pairwise(turns):
            ended = asked[head.message_id][-1]["ended_at"]
            if ended is None or following.accepted_at > _time(ended) - timedelta(milliseconds=100):
                continue
            began = min(_time(call["at"]) for call in run.calls if call["message_id"] == following.message_id)
            gap = (began - _time(ended)).total_seconds()
            everything.append(gap)
            near = any(_time(ended) - timedelta(seconds=3) <= dead and dying <= began for dying, dead in run.kills)
            if not near and head.message_id not in refused:
                calm.append(gap)
    return everything, calm


def _previous_counts(run: Run) -> dict[str, int]:
    said = [text for messages in run.threads.values() for role, text in messages if role == "ai"]
    return {
        message.previous: sum(message.previous in text for text in said)
        for message in run.all
        if message.previous is not None
    }


def _states(run: Run, status: str) -> list[str]:
    return [message.text for message in run.all if run.results.get(message.message_id, {}).get("status") == status]


def _merge_breaks(run: Run) -> dict[str, list[str]]:
    """A burst is one call, its last message has the answer to all of it, and the others name that one."""
    several, wrong = [], []
    cut = {call["content"] for call in run.calls if _was_cut(run, call) or call["outcome"].startswith("refused")}
    for messages in run.sent.values():
        for _, burst in itertools.groupby(messages, key=lambda message: message.burst):
            *earlier, last = burst
            question = "\n".join(message.text for message in (*earlier, last))
            calls = [call for call in run.calls if last.text in call["content"]]
            if any(call["content"] != question for call in calls) or (len(calls) != 1 and question not in cut):
                several.append(f"{last.text}: {[call['content'] for call in calls]}")
            into = {run.results.get(message.message_id, {}).get("merged_into") for message in earlier}
            if into - {last.message_id} or "merged_into" in run.results.get(last.message_id, {}):
                wrong.append(last.text)
    return {"bursts_of_several_calls": several, "not_merged_into_the_last": wrong}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _p95(values: Sequence[float]) -> float | None:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


if __name__ == "__main__":
    sys.exit(main())
