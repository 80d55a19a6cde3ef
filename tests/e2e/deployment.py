"""Runs the gateway as its users would, from outside: `./eai up`, or five processes on RabbitMQ and Redis."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from eai_cli.sandbox_process import sandbox_environment, start_sandbox
from eai_cli.servers import RabbitServer, RedisServer, run_private_rabbitmq, run_private_redis
from eai_common.testing import wait_until

__all__ = [
    "CALLBACK_SECRET",
    "ROOT",
    "STAGES",
    "Client",
    "Deployment",
    "FiveProcesses",
    "Up",
    "free_ports",
    "five_processes",
    "up",
]

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingress", "transcriber", "agent-router", "formatter", "poller")

CALLBACK_SECRET = "whsec_" + base64.b64encode(b"only the tests know this secret!").decode()

_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 40.0
_ANSWER_WITHIN_S = 60.0


@dataclass
class Client:
    """A channel's view of the gateway. One address takes messages, one answers polls; `./eai up` has one for both."""

    ingress_url: str
    poller_url: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def post(self, body: object, *, to: str = "user", **options: Any) -> httpx.Response:
        return self.http.post(f"{self.ingress_url}/api/v1/message/webhook/{to}", json=body, **options)

    def send(self, user: str, message: str, **fields: object) -> str:
        """Post a message that must be accepted; gives its id."""
        response = self.post({"user_number": user, "message": message, **fields})
        assert response.status_code == 202, response.text
        return str(response.json()["message_id"])

    def poll(self, message_id: str) -> httpx.Response:
        return self.http.get(f"{self.poller_url}/api/v1/message/response", params={"message_id": message_id})

    def task_status(self, message_id: str) -> dict[str, Any]:
        path = f"{self.poller_url}/api/v1/message/debug/task-status"
        found: dict[str, Any] = self.http.get(path, params={"message_id": message_id}).raise_for_status().json()
        return found

    def answer(self, message_id: str, *, within_s: float = _ANSWER_WITHIN_S) -> dict[str, Any]:
        """Poll until the result is there; it must come in time."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            nonlocal found
            response = self.poll(message_id)
            assert response.status_code in (200, 202), response.text
            found = response.json()
            return response.status_code == 200

        wait_until(is_there, within_s=within_s, every_s=0.1, what=f"{message_id} is answered")
        return found


@dataclass
class Sandbox:
    """The outside services, and how to make them fail."""

    url: str

    def order_fault(self, **fault: object) -> None:
        httpx.put(f"{self.url}/sandbox/faults", json=fault, trust_env=False).raise_for_status()

    def clear_faults(self) -> None:
        httpx.delete(f"{self.url}/sandbox/faults", trust_env=False).raise_for_status()

    def forget_calls(self) -> None:
        httpx.delete(f"{self.url}/sandbox/calls", trust_env=False).raise_for_status()

    def is_asked(self, target: str) -> bool:
        return bool(self._calls(target))

    def questions(self) -> list[str]:
        """Everything that the agent was asked, in the order that it was."""
        return [call["content"] for call in self._calls("agent_engine")]

    def _calls(self, target: str) -> list[dict[str, Any]]:
        response = httpx.get(f"{self.url}/sandbox/calls", params={"target": target}, trust_env=False)
        calls: list[dict[str, Any]] = response.json()["calls"]
        return calls


@dataclass
class Deployment:
    """A running gateway."""

    client: Client
    sandbox: Sandbox
    host: str = field(default="127.0.0.1", kw_only=True)  # where the gateway reaches servers of the tests
    callback_secret: str = field(default=CALLBACK_SECRET, kw_only=True)

    def metrics(self) -> list[str]:
        """What each process of the gateway exposes."""
        return [_get(f"{self.client.ingress_url}/metrics")]


class Process:
    """A child process whose output is kept in a file, for the message when a test fails."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT)
        self._began = time.monotonic()
        self.started_s = 0.0  # from start to ready, in seconds

    def wait_for(self, found: Callable[[], bool]) -> None:
        def is_there() -> bool:
            assert self.popen.poll() is None, f"{self.name} ended with {self.popen.returncode}:\n{self.output()}"
            return found()

        wait_until(is_there, within_s=_READY_WITHIN_S, what=f"{self.name} is ready\n{self.output()}")
        self.started_s = time.monotonic() - self._began

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, how: signal.Signals) -> int:
        """Send the signal and wait; gives the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.popen.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{self.name} did not end within {_STOP_WITHIN_S:g} s:\n{self.output()}") from None


@dataclass
class Up(Deployment):
    """`./eai up`."""

    process: Process


@contextmanager
def up(folder: Path) -> Iterator[Up]:
    """Everything in one process, in memory."""
    process = Process("up", ["./eai", "up", "--port", "0"], _environ(LOG_FORMAT="json"), folder)
    try:
        process.wait_for(lambda: "ready http" in process.output())
        url = _line_with(process, "ready http").split()[1]
        sandbox_url = json.loads(_line_with(process, "sandbox_started"))["http"]
        client = Client(url, url)
        with client.http:
            yield Up(client, Sandbox(sandbox_url), process)
    finally:
        process.end(signal.SIGTERM)


class FiveProcesses(Deployment):
    """Each stage as it runs in production, on a real RabbitMQ and a real Redis."""

    def __init__(
        self, environ: dict[str, str], sandbox: Sandbox, rabbitmq: RabbitServer, redis: RedisServer, folder: Path
    ) -> None:
        self.rabbitmq = rabbitmq
        self.redis = redis
        self._environ = environ
        self._folder = folder
        self._ports = dict(zip(STAGES, free_ports(len(STAGES)), strict=True))
        self._running: dict[str, Process] = {}
        super().__init__(Client(self.url("ingress"), self.url("poller")), sandbox)

    def url(self, stage: str) -> str:
        return f"http://127.0.0.1:{self._ports[stage]}"

    def start(self, *replicas: str) -> None:
        """Start the stages, or further replicas of one (`agent-router-2`), side by side; return once all are ready."""
        for replica in replicas:
            environ = {**self._environ, "PORT": str(self._ports[replica])}
            module = f"eai_{_stage_of(replica).replace('-', '_')}"
            self._running[replica] = Process(replica, [sys.executable, "-m", module], environ, self._folder)
        for replica in replicas:
            self._running[replica].wait_for(lambda replica=replica: self.is_ready(replica))  # type: ignore[misc]

    def scale(self, stage: str, replicas: int) -> None:
        """Run this many replicas of a stage: `agent-router`, `agent-router-2` and so on; return once all are ready."""
        wanted = [stage, *(f"{stage}-{number}" for number in range(2, replicas + 1))][:replicas]
        for surplus in [name for name in self._running if _stage_of(name) == stage and name not in wanted]:
            self.end(surplus, signal.SIGTERM)
        missing = [name for name in wanted if name not in self._running]
        self._ports |= dict(zip(missing, free_ports(len(missing)), strict=True))
        self.start(*missing)

    def is_ready(self, stage: str) -> bool:
        try:
            return httpx.get(f"{self.url(stage)}/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def end(self, stage: str, how: signal.Signals) -> int:
        """End a stage by a signal; gives its exit code."""
        return self._running.pop(stage).end(how)

    def end_all(self) -> None:
        for stage in tuple(self._running):
            self.end(stage, signal.SIGTERM)

    def process(self, stage: str) -> Process:
        return self._running[stage]

    def metrics(self) -> list[str]:
        return [_get(f"{self.url(replica)}/metrics") for replica in self._running]

    def depths(self) -> dict[str, int]:
        """Ready and unacked messages of every queue, as the broker counted them up to five seconds ago."""
        rows = self.rabbitmq.ctl("list_queues", "name", "messages", "--formatter", "json")
        return {row["name"]: row["messages"] for row in json.loads(rows)}


@contextmanager
def five_processes(folder: Path, **settings: str) -> Iterator[FiveProcesses]:
    """The five stages, with private servers and a sandbox."""
    with ExitStack() as stack:
        starting_sandbox = stack.enter_context(start_sandbox())
        rabbitmq = stack.enter_context(run_private_rabbitmq())
        redis = stack.enter_context(run_private_redis())
        sandbox = starting_sandbox.wait_for_address()
        environ = _environ(
            **{
                **sandbox_environment(sandbox),
                "RABBITMQ_URL": rabbitmq.url,
                "REDIS_URL": redis.url,
                "HOST": "127.0.0.1",
                "CHECKPOINT_LEASE": "2s",
                "RABBITMQ_RETRY_DELAY": "1s",
                **settings,
            },
        )
        deployment = FiveProcesses(environ, Sandbox(sandbox.http_url), rabbitmq, redis, folder)
        stack.callback(deployment.end_all)
        stack.enter_context(deployment.client.http)
        deployment.start(*STAGES)
        yield deployment


def _environ(**settings: str) -> dict[str, str]:
    """What the test's own environment has, without what would configure the gateway by chance."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "PYENV_ROOT")
    here = {name: os.environ[name] for name in kept if name in os.environ}
    return {**here, "CALLBACK_SECRETS": CALLBACK_SECRET, **settings}


def _stage_of(replica: str) -> str:
    return next(stage for stage in STAGES if replica == stage or replica.startswith(f"{stage}-"))


def _get(url: str) -> str:
    return httpx.get(url, trust_env=False).raise_for_status().text


def _line_with(process: Process, text: str) -> str:
    return next(line for line in process.output().splitlines() if text in line)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
