"""How long a message takes from end to end, how many pass a second, and what each process costs.

Runs `./eai up` and five processes on private RabbitMQ and Redis servers, with a sandbox agent that answers at once, and
prints JSON. The named baseline, measured in the same run, is `direct`: the same questions asked of the sandbox's agent
without the gateway. Load generator, broker, Redis, sandbox and gateway share this machine's cores, so the ratios are
worth more than the figures.

    .venv/bin/python benchmarks/pipeline.py [--messages 300] [--concurrency 50]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e.deployment import STAGES, Deployment, FiveProcesses, Up, five_processes, up

_POLL_EVERY_S = 0.005
_ENGINE = "v1beta1/projects/sandbox/locations/us-central1/reasoningEngines/1:query"


def main() -> int:
    """Run all and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=300, help="in each measurement")
    parser.add_argument("--concurrency", type=int, default=50, help="messages under way in the throughput measurement")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            "up": _measured_up(Path(folder), given.messages, given.concurrency),
            "five_processes": _measured_five(Path(folder), given.messages, given.concurrency),
        }
    direct = measured["five_processes"].pop("direct")
    report = {
        "benchmark": "pipeline",
        "machine": {"cpus": os.cpu_count(), "python": sys.version.split()[0]},
        "messages": given.messages,
        "concurrency": given.concurrency,
        "baseline": {"name": "direct: the sandbox's agent asked without the gateway", **direct},
        **measured,
        "ratios": {
            "up_p50_to_direct_p50": _ratio(measured["up"]["p50_ms"], direct["p50_ms"]),
            "five_processes_p50_to_direct_p50": _ratio(measured["five_processes"]["p50_ms"], direct["p50_ms"]),
            "five_processes_to_up_messages_per_s": _ratio(
                measured["five_processes"]["messages_per_s"], measured["up"]["messages_per_s"]
            ),
        },
    }
    print(json.dumps(report, indent=2))
    return 0


def _measured_up(folder: Path, messages: int, concurrency: int) -> dict[str, Any]:
    began = time.perf_counter()
    with up(folder) as running:
        started_s = time.perf_counter() - began
        return {
            **_measured(running, messages, concurrency),
            "start_s": round(started_s, 2),
            "rss_mb": _rss_mb(_python_of(running)),
        }


def _measured_five(folder: Path, messages: int, concurrency: int) -> dict[str, Any]:
    with five_processes(folder, LOG_LEVEL="warning") as running:
        measured = _measured(running, messages, concurrency)
        measured["direct"] = asyncio.run(_latency(_ask_directly(running.sandbox.url), messages))
        measured["stages"] = {stage: _stage(running, stage) for stage in STAGES}
        return measured


def _measured(running: Deployment, messages: int, concurrency: int) -> dict[str, Any]:
    ask = _ask_gateway(running)
    asyncio.run(_latency(ask, 20))  # warm: connections, imports, pools
    latency = asyncio.run(_latency(ask, messages))
    return {**latency, "messages_per_s": asyncio.run(_throughput(ask, messages, concurrency))}


Ask = Callable[[httpx.AsyncClient, int], Awaitable[None]]


async def _latency(ask: Ask, messages: int) -> dict[str, float]:
    """One message at a time."""
    took_ms = []
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for number in range(messages):
            began = time.perf_counter()
            await ask(client, number)
            took_ms.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(took_ms, n=100)
    return {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2)}


async def _throughput(ask: Ask, messages: int, concurrency: int) -> float:
    """Always `concurrency` messages under way; completed messages a second."""
    numbers = iter(range(messages))

    async def worker(client: httpx.AsyncClient) -> None:
        for number in numbers:
            await ask(client, number)

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        workers = [group.create_task(worker(client)) for _ in range(concurrency)]
        await asyncio.gather(*workers)
        return round(messages / (time.perf_counter() - began), 1)


def _ask_gateway(running: Deployment) -> Ask:
    async def ask(client: httpx.AsyncClient, number: int) -> None:
        body = {"user_number": f"+5521{number:09d}", "message": f"Pergunta {number}"}
        posted = await client.post(f"{running.client.ingress_url}/api/v1/message/webhook/user", json=body)
        query = {"message_id": posted.raise_for_status().json()["message_id"]}
        while True:
            response = await client.get(f"{running.client.poller_url}/api/v1/message/response", params=query)
            if response.status_code == 200:
                return
            response.raise_for_status()
            await asyncio.sleep(_POLL_EVERY_S)

    return ask


def _ask_directly(url: str) -> Ask:
    async def ask(client: httpx.AsyncClient, number: int) -> None:
        messages = [{"role": "human", "content": f"Pergunta {number}"}]
        config = {"configurable": {"thread_id": f"+5521{number:09d}"}}
        body = {"classMethod": "async_query", "input": {"input": {"messages": messages}, "config": config}}
        (await client.post(f"{url}/{_ENGINE}", json=body)).raise_for_status()

    return ask


def _stage(running: FiveProcesses, stage: str) -> dict[str, float]:
    process = running.process(stage)
    return {"start_s": round(process.started_s, 2), "rss_mb": _rss_mb(psutil.Process(process.popen.pid))}


def _python_of(running: Up) -> psutil.Process:
    return psutil.Process(running.process.popen.pid)


def _rss_mb(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def _ratio(measured: float, baseline: float) -> float:
    return round(measured / baseline, 2)


if __name__ == "__main__":
    sys.exit(main())
