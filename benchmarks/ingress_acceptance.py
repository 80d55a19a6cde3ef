"""Whether ingress keeps its promises under load and while things die: five processes, a private RabbitMQ and Redis.

Prints JSON for each scenario, and ends with 1 when a promise was broken.

- `clients`: one written against the predecessor, one from the contract alone, each against a gateway in its own mode.
- `load`: users who send, poll until they are answered, and send again. Every POST is accepted, every message completed.
- `broker`: the same while RabbitMQ is killed and started again. Every POST gets 202 or 503, every 202 an answer.
- `process`: ingress is killed again and again (SIGKILL) while clients repeat a request with its Idempotency-Key until
  it is accepted. Each key is one message, and the agent is asked each question once.

    .venv/bin/python benchmarks/ingress_acceptance.py [clients load broker process] [--users 300] [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e.deployment import FiveProcesses, five_processes

_ANSWER_WITHIN_S = 180.0
_numbers = itertools.count(5521900000000)


def main() -> int:
    """Run the scenarios; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    kept = True
    for name in given.scenarios:
        with tempfile.TemporaryDirectory() as folder:
            found = SCENARIOS[name](Path(folder), given.users, given.seconds)
        print(json.dumps({"scenario": name, **found}, indent=2), flush=True)
        kept = kept and found["kept"]
    return 0 if kept else 1


# Clients


def _clients(folder: Path, users: int, seconds: float) -> dict[str, Any]:
    with _gateway(folder / "predecessor", API_COMPATIBILITY="predecessor") as gateway:
        predecessor = _predecessors_client(gateway)
    with _gateway(folder / "described") as gateway:
        described = _contracts_client(gateway)
    return {"kept": predecessor and described, "predecessor": predecessor, "described": described}


def _predecessors_client(gateway: FiveProcesses) -> bool:
    """Posts, wants 201, polls 202 until 200, and reads the last assistant message."""
    http = gateway.client.http
    posted = gateway.client.post({"user_number": "user_ab12cd34", "message": "Quando vence o IPTU?"})
    polled = _polled_until_done(http, gateway, posted.json()["message_id"])
    said = [one for one in polled["data"]["messages"] if one["message_type"] == "assistant_message"]
    return posted.status_code == 201 and posted.json()["status"] == "processing" and "IPTU" in said[-1]["content"]


def _contracts_client(gateway: FiveProcesses) -> bool:
    """Posts with a key, follows `Location`, waits as long as `Retry-After` says, and reads `content`."""
    http, key = gateway.client.http, {"Idempotency-Key": "contract-1"}
    body = {"user_number": "5521999990000", "message": "Quando vence o IPTU?", "metadata": {"n": 1}}
    posted, again = (gateway.client.post(body, headers=key) for _ in range(2))
    conflict = gateway.client.post({**body, "message": "Outra coisa"}, headers=key)
    polled = _polled_until_done(http, gateway, posted.headers["location"].partition("message_id=")[2])
    codes = (posted.status_code, again.status_code, conflict.status_code)
    is_replayed = again.headers.get("idempotent-replayed") == "true" and posted.content == again.content
    return codes == (202, 202, 422) and is_replayed and "IPTU" in polled["content"] and polled["metadata"] == {"n": 1}


def _polled_until_done(http: httpx.Client, gateway: FiveProcesses, message_id: str) -> dict[str, Any]:
    while True:
        answer = http.get(f"{gateway.url('poller')}/api/v1/message/response", params={"message_id": message_id})
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()
            return found
        if answer.status_code != 202:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        time.sleep(float(answer.headers["retry-after"]))


# Load


@dataclass
class Tally:
    """What the users met with."""

    posts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    post_ms: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        return {
            "posts": dict(self.posts),
            "ends": dict(self.ends),
            "post_p50_ms": _share(self.post_ms, 0.5),
            "post_p99_ms": _share(self.post_ms, 0.99),
            "answer_p50_s": _share(self.answer_s, 0.5),
            "answer_p99_s": _share(self.answer_s, 0.99),
        }


def _load(folder: Path, users: int, seconds: float) -> dict[str, Any]:
    with _gateway(folder) as gateway:
        tally = asyncio.run(_visited(gateway, users, seconds))
    accepted = sum(tally.posts.values())
    kept = set(tally.posts) == {"202"} and tally.ends == {"completed": accepted}
    return {"kept": kept, "users": users, "seconds": seconds, **tally.report()}


def _broker(folder: Path, users: int, seconds: float) -> dict[str, Any]:
    def trouble(gateway: FiveProcesses) -> None:
        time.sleep(seconds / 4)
        gateway.rabbitmq.kill()
        time.sleep(seconds / 6)
        gateway.rabbitmq.start()

    with _gateway(folder) as gateway:
        tally = asyncio.run(_visited(gateway, users, seconds, trouble))
    kept = set(tally.posts) <= {"202", "503"} and tally.ends == {"completed": tally.posts["202"]}
    return {"kept": kept and tally.posts["503"] > 0, "users": users, "seconds": seconds, **tally.report()}


async def _visited(
    gateway: FiveProcesses, users: int, seconds: float, trouble: Callable[[FiveProcesses], None] | None = None
) -> Tally:
    tally, until = Tally(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(users):
            group.create_task(_user(client, gateway, tally, until))
        if trouble is not None:
            group.create_task(asyncio.to_thread(trouble, gateway))
    return tally


async def _user(client: httpx.AsyncClient, gateway: FiveProcesses, tally: Tally, until: float) -> None:
    number = next(_numbers)
    for turn in itertools.count():
        if time.monotonic() > until:
            return
        began = time.monotonic()
        body = {"user_number": f"{number}", "message": f"Pergunta {turn}"}
        try:
            posted = await client.post(f"{gateway.url('ingress')}/api/v1/message/webhook/user", json=body)
        except httpx.TransportError as error:
            tally.posts[type(error).__name__] += 1
            continue
        tally.posts[str(posted.status_code)] += 1
        tally.post_ms.append((time.monotonic() - began) * 1000)
        if posted.status_code == 202:
            tally.ends[await _end(client, gateway, posted.json()["message_id"])] += 1
            tally.answer_s.append(time.monotonic() - began)
        await asyncio.sleep(1)


async def _end(client: httpx.AsyncClient, gateway: FiveProcesses, message_id: str) -> str:
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < deadline:
        answer = await client.get(f"{gateway.url('poller')}/api/v1/message/response", params={"message_id": message_id})
        if answer.status_code != 202:
            return str(answer.json()["status"]) if answer.status_code == 200 else str(answer.status_code)
        await asyncio.sleep(float(answer.headers["retry-after"]))
    return "no answer"


# A process that dies


def _process(folder: Path, users: int, seconds: float) -> dict[str, Any]:
    with _gateway(folder) as gateway:
        accepted = asyncio.run(_insisted(gateway, users=30, turns=25))
        ids = [message_ids for message_ids in accepted.values() if len(message_ids) != 1]
        questions = Counter(gateway.sandbox.questions())
        repeated = {question: times for question, times in questions.items() if times > 1}
        missing = [question for question in accepted if question not in questions]
        kills = gateway_kills[0]
    kept = not ids and not repeated and not missing and kills > 0
    return {
        "kept": kept,
        "keys": len(accepted),
        "kills": kills,
        "keys_with_more_than_one_message": len(ids),
        "asked_more_than_once": len(repeated),
        "never_asked": len(missing),
    }


gateway_kills = [0]


async def _insisted(gateway: FiveProcesses, *, users: int, turns: int) -> dict[str, set[str]]:
    """The ids that each question was accepted under. Each is sent once more after it was accepted."""
    accepted: dict[str, set[str]] = {}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        killer = asyncio.create_task(_killing(gateway))
        asking = [_insistent(client, gateway, next(_numbers), turns, accepted) for _ in range(users)]
        await asyncio.gather(*asking)
        killer.cancel()
        await asyncio.wait({killer})
        if not gateway.is_ready("ingress"):
            await asyncio.to_thread(gateway.start, "ingress")
        ends = await asyncio.gather(*(_end(client, gateway, next(iter(ids))) for ids in accepted.values()))
    if set(ends) != {"completed"}:
        raise RuntimeError(f"not all were completed: {Counter(ends)}")
    return accepted


async def _killing(gateway: FiveProcesses) -> None:
    while True:
        await asyncio.sleep(1)
        await asyncio.shield(asyncio.to_thread(_kill_and_start, gateway))
        gateway_kills[0] += 1


def _kill_and_start(gateway: FiveProcesses) -> None:
    gateway.end("ingress", signal.SIGKILL)
    gateway.start("ingress")


async def _insistent(
    client: httpx.AsyncClient, gateway: FiveProcesses, number: int, turns: int, accepted: dict[str, set[str]]
) -> None:
    for turn in range(turns):
        question = f"Pergunta {turn} de {number}"
        body, key = {"user_number": f"{number}", "message": question}, {"Idempotency-Key": f"{number}-{turn}"}
        left = 2  # the second time is a replay
        while left:
            try:
                posted = await client.post(
                    f"{gateway.url('ingress')}/api/v1/message/webhook/user", json=body, headers=key
                )
            except httpx.TransportError:
                await asyncio.sleep(0.2)
                continue
            if posted.status_code == 202:
                accepted.setdefault(question, set()).add(posted.json()["message_id"])
                left -= 1
            else:
                await asyncio.sleep(0.2)


@contextmanager
def _gateway(folder: Path, **settings: str) -> Iterator[FiveProcesses]:
    folder.mkdir(parents=True, exist_ok=True)
    with five_processes(folder, LOG_LEVEL="warning", TASK_RESULT_TTL="10m", **settings) as gateway:
        yield gateway


def _share(values: list[float], share: float) -> float | None:
    return round(sorted(values)[int(len(values) * share)], 2) if values else None


SCENARIOS: dict[str, Callable[[Path, int, float], dict[str, Any]]] = {
    "clients": _clients,
    "load": _load,
    "broker": _broker,
    "process": _process,
}

if __name__ == "__main__":
    sys.exit(main())
