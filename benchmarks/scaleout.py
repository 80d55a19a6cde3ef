"""How much more passes when agent-router has more replicas, while the agent takes two seconds for each answer.

Runs the gateway as processes on private RabbitMQ and Redis servers, or in the containers of deploy/compose, gives
agent-router one, two and three replicas of MAX_PARALLEL each, and prints JSON. The named baseline, measured in the same
run, is one replica. Every measurement is as many full rounds of work for each slot, so ratios compare like with like;
the counts go up and down again. The agent waits and does not compute, so the ratio shows what the gateway adds.

    .venv/bin/python benchmarks/scaleout.py [--rounds 6] [--agent-s 2] [--parallel 8]
    build-support/docker/build-images.sh && .venv/bin/python benchmarks/scaleout.py --containers
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e.compose import COMPOSE_FILES, PROJECT, Compose, compose_environment
from e2e.deployment import Client, Sandbox, five_processes

_COUNTS = (1, 2, 3)
_CONNECTIONS = 24
_POLL_EVERY_S = 0.05
# One address sends all of it.
NO_LIMITS = {"RATE_LIMIT_REQUESTS_PER_MINUTE": "0", "RATE_LIMIT_BURST": "0", "LOG_LEVEL": "warning"}
# As most deployments have it. With several, a replica holds messages for each, and puts back those it has no place for.
ONE_PROVIDER = {"EAI_AGENT_SERVICE_URL": "", "OPENAI_MODEL": ""}
_USERS = itertools.count(5521970000000)


class Scalable(Protocol):
    """A running gateway of which a stage can be given more replicas."""

    client: Client
    sandbox: Sandbox

    def scale(self, stage: str, replicas: int) -> None:
        """Run this many replicas; return once they are ready."""


def main() -> int:
    """Run all and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="answers of each slot in a measurement")
    parser.add_argument("--agent-s", type=float, default=2.0, help="what the agent takes for an answer, in seconds")
    parser.add_argument("--parallel", type=int, default=8, help="MAX_PARALLEL of a replica")
    parser.add_argument("--containers", action="store_true", help="in the containers of deploy/compose")
    given = parser.parse_args()
    settings = {"MAX_PARALLEL": str(given.parallel), **NO_LIMITS, **ONE_PROVIDER}
    with in_containers(settings) if given.containers else in_processes(settings) as running:
        running.sandbox.order_fault(target="agent_engine", kind="latency", seconds=given.agent_s)
        measured = asyncio.run(measure_all(running, given.parallel, given.rounds))
    one = statistics.median(measured[1])
    report = {
        "benchmark": "scaleout",
        "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0]},
        "in": "containers" if given.containers else "processes",
        "agent_s": given.agent_s,
        "max_parallel": given.parallel,
        "baseline": {"name": "one replica of agent-router", "messages_per_s": one},
        "most_possible_messages_per_s": {count: count * given.parallel / given.agent_s for count in _COUNTS},
        "messages_per_s": measured,
        "ratios": {f"{count}_replicas_to_one": ratio(measured[count], one) for count in _COUNTS[1:]},
    }
    print(json.dumps(report, indent=2))
    return 0


@contextmanager
def in_processes(settings: dict[str, str]) -> Iterator[Scalable]:
    """Five processes, on servers of our own."""
    with tempfile.TemporaryDirectory() as folder, five_processes(Path(folder), **settings) as running:
        yield running


@contextmanager
def in_containers(settings: dict[str, str]) -> Iterator[Scalable]:
    """The stack of deploy/compose with the sandbox; the images must be there."""
    environ = {**compose_environment(), **settings}
    files = [*COMPOSE_FILES, Path(__file__).with_name("scaleout.compose.yaml")]
    named = [part for file in files for part in ("--file", str(file))]
    compose = ["docker", "compose", *named, "--project-name", PROJECT]
    environment = {**os.environ, **environ}
    try:
        subprocess.run(
            [*compose, "up", "--detach", "--wait", "--no-build"], env=environment, check=True, stdout=sys.stderr
        )
        running = Compose(environ, files)
        with running.client.http:
            yield running
    finally:
        subprocess.run(
            [*compose, "down", "--volumes", "--timeout", "2"], env=environment, check=True, stdout=sys.stderr
        )


async def measure_all(running: Scalable, parallel: int, rounds: int) -> dict[int, list[float]]:
    """Messages a second by number of replicas, each measured twice: on the way up and on the way down."""
    found: dict[int, list[float]] = {count: [] for count in _COUNTS}
    for count in (*_COUNTS, *reversed(_COUNTS)):
        running.scale("agent-router", count)
        await answered_per_s(running.client, count * parallel)  # warm: a new replica connects to its agent at first
        found[count].append(await answered_per_s(running.client, count * parallel * rounds))
    return found


async def answered_per_s(client: Client, messages: int) -> float:
    """Send that many messages of as many users at once; how many a second were answered until the last one was."""
    limits = httpx.Limits(max_connections=_CONNECTIONS)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
        began = time.perf_counter()
        sent = await asyncio.gather(*(send(http, client) for _ in range(messages)))
        for message_id in sent:  # one after the other: polling for all at once would cost more than what is measured
            await answer(http, client, message_id)
        return round(messages / (time.perf_counter() - began), 2)


async def send(http: httpx.AsyncClient, client: Client) -> str:
    """Send one message of a new user; gives its id."""
    body = {"user_number": f"+{next(_USERS)}", "message": "Quando vence o IPTU?"}
    posted = await http.post(f"{client.ingress_url}/api/v1/message/webhook/user", json=body)
    return str(posted.raise_for_status().json()["message_id"])


async def answer(http: httpx.AsyncClient, client: Client, message_id: str) -> None:
    """Return once the message is answered."""
    while True:
        url = f"{client.poller_url}/api/v1/message/response"
        response = await http.get(url, params={"message_id": message_id})
        if response.raise_for_status().status_code == 200:
            assert response.json()["status"] == "completed", response.text
            return
        await asyncio.sleep(_POLL_EVERY_S)


def ratio(measured: list[float], baseline: float) -> float:
    return round(statistics.median(measured) / baseline, 2)


if __name__ == "__main__":
    sys.exit(main())
