"""The poller as a process: what an orchestrator sees from its start to its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from eai_common.clock import SystemClock
from eai_common.ids import Ids
from eai_common.testing import RANDOM, wait_until


@contextmanager
def poller(**environ: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running poller, its address, and the lines it has logged until it was up."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")}
    with subprocess.Popen(
        [sys.executable, "-m", "eai_poller"],
        env={**kept, "HOST": "127.0.0.1", "PORT": "0", **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            lines: list[str] = []
            assert process.stderr is not None
            while not (found := re.search(r'"address":"([^"]+)"', "".join(lines[-1:]))):
                line = process.stderr.readline()
                assert line, lines
                lines.append(line)
            yield process, f"http://{found[1]}", lines
        finally:
            process.kill()


def test_a_poller_answers_until_sigterm_and_then_ends_with_0(redis_server: Any) -> None:
    with poller(REDIS_URL=redis_server.url) as (process, url, _):
        asked = {path: httpx.get(f"{url}{path}").status_code for path in ("/live", "/ready", "/health", "/metrics")}
        process.send_signal(signal.SIGTERM)
        assert (asked, process.wait(10)) == (dict.fromkeys(asked, 200), 0)


def test_a_poller_says_in_its_log_when_it_started_and_stopped(redis_server: Any) -> None:
    with poller(REDIS_URL=redis_server.url, API_TOKEN="secret") as (process, _, lines):
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        events = [json.loads(line)["event"] for line in [*lines, *process.stderr]]
    assert (events[0], events[-1]) == ("service_started", "service_stopped")


def test_a_poller_without_redis_lives_and_is_not_ready() -> None:
    with poller(REDIS_URL="redis://127.0.0.1:1/0") as (_, url, _):
        codes = [httpx.get(f"{url}{path}").status_code for path in ("/live", "/ready", "/health")]
        assert codes == [200, 503, 503]


def test_a_poller_is_ready_again_once_redis_is_back(own_redis: Any) -> None:
    with poller(REDIS_URL=own_redis.url) as (_, url, _):
        own_redis.kill()
        try:
            down = httpx.get(f"{url}/ready").status_code
        finally:
            own_redis.start()
        wait_until(lambda: httpx.get(f"{url}/ready").status_code == 200)
        assert down == 503


def test_a_poller_can_be_told_to_serve_no_metrics(redis_server: Any) -> None:
    with poller(REDIS_URL=redis_server.url, PROMETHEUS_ENABLED="false") as (_, url, _):
        assert httpx.get(f"{url}/metrics").status_code == 404


def wait_for_requests(url: str, count: int) -> None:
    """Until so many are open beside the one that asks."""
    in_flight = re.compile(r"^http_requests_in_flight (\S+)", re.M)
    wait_until(lambda: float(in_flight.findall(httpx.get(f"{url}/metrics").text)[0]) > count, within_s=20)


def test_a_drain_answers_a_long_poll_and_ends_a_stream_at_once(redis_server: Any) -> None:
    message_id = Ids(SystemClock(), RANDOM).message_id()
    path = f"/api/v1/message/response?message_id={message_id}&wait=30"
    with poller(REDIS_URL=redis_server.url) as (process, url, _), ThreadPoolExecutor() as pool:
        poll = pool.submit(httpx.get, f"{url}{path}", timeout=40)
        stream = pool.submit(httpx.get, f"{url}{path}", timeout=40, headers={"Accept": "text/event-stream"})
        wait_for_requests(url, 2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended = process.wait(20)
        assert (ended, poll.result().status_code, stream.result().status_code) == (0, 202, 200)
        assert "result" not in stream.result().text
        assert time.monotonic() - began < 15
