"""The gateway in the containers of deploy/compose: pytest-docker brings it up, Docker's own commands drive it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2e.deployment import ROOT, STAGES, Client, Deployment, Sandbox, free_ports

from eai_common.testing import wait_until

__all__ = ["COMPOSE_FILES", "IMAGES", "PROJECT", "Compose", "Container", "compose_environment"]

FOLDER = ROOT / "deploy" / "compose"
COMPOSE_FILES = [FOLDER / "compose.yaml", FOLDER / "compose.dev.yaml", Path(__file__).parent / "compose.tests.yaml"]
PROJECT = f"eai-tests-{os.getpid()}"
IMAGES = (*STAGES, "sandbox")

_PORTS = ("EDGE_PORT", "SANDBOX_PORT", "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "REDIS_PORT")
_COMMAND_S = 180.0


def compose_environment() -> dict[str, str]:
    """What makes this stack one of its own beside others on the machine: free ports."""
    return {name: str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}


@dataclass(frozen=True)
class Container:
    """One container of a service."""

    name: str

    def crash(self) -> None:
        """End its process by SIGKILL, from inside: Docker starts it again, which it does not after `docker kill`."""
        docker("exec", self.name, "sh", "-c", "kill -9 -1 || true")

    def stop(self) -> None:
        docker("stop", self.name)

    def start(self) -> None:
        docker("start", self.name)

    def leave(self, network: str) -> None:
        """Cut it off from one network, with its connections open."""
        docker("network", "disconnect", f"{PROJECT}_{network}", self.name)

    def join(self, network: str, alias: str) -> None:
        docker("network", "connect", "--alias", alias, f"{PROJECT}_{network}", self.name)

    @property
    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(docker("inspect", "--format", "{{json .State}}", self.name))
        return found

    @property
    def is_healthy(self) -> bool:
        health = self.state.get("Health")
        return isinstance(health, dict) and health["Status"] == "healthy"

    @property
    def restarts(self) -> int:
        """How often Docker has started it again."""
        return int(docker("inspect", "--format", "{{.RestartCount}}", self.name))

    def logs(self) -> str:
        """What it has said, on stdout and stderr."""
        done = subprocess.run(
            ["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return done.stdout

    def python(self, program: str) -> str:
        return docker("exec", self.name, "python", "-c", program)

    def restarted_within_s(self) -> float:
        """Start it anew, alone; gives the seconds from its process's start to the line that says that it is ready."""
        docker("restart", self.name)
        began = datetime.fromisoformat(str(self.state["StartedAt"])[:26] + "+00:00")

        def ready() -> list[datetime]:
            lines = [json.loads(line) for line in self.logs().splitlines() if '"service_started"' in line]
            return [at for at in (datetime.fromisoformat(line["timestamp"]) for line in lines) if at > began]

        wait_until(lambda: bool(ready()), within_s=30, what=f"{self.name} is ready")
        return (ready()[0] - began).total_seconds()


class Compose(Deployment):
    """A running stack."""

    def __init__(self, environ: dict[str, str], files: Sequence[Path] = COMPOSE_FILES) -> None:
        self._environ = environ
        self._files = files
        edge = f"http://127.0.0.1:{environ['EDGE_PORT']}"
        sandbox = Sandbox(f"http://127.0.0.1:{environ['SANDBOX_PORT']}")
        secret = (FOLDER / "secrets" / "development" / "callback_secrets").read_text().strip()
        super().__init__(Client(edge, edge), sandbox, host=_gateway_of("outside"), callback_secret=secret)

    @property
    def broker_url(self) -> str:
        return f"amqp://gateway:development@127.0.0.1:{self._environ['RABBITMQ_PORT']}/"

    def containers(self, service: str, *, is_running: bool = True) -> list[Container]:
        """The containers of a service, the oldest first."""
        rows = self.run("ps", *([] if is_running else ["--all"]), "--format", "json", service).splitlines()
        found = sorted((json.loads(row) for row in rows), key=lambda row: str(row["CreatedAt"]))
        return [Container(row["Name"]) for row in found]

    def container(self, service: str) -> Container:
        return self.containers(service)[0]

    def scale(self, service: str, replicas: int) -> None:
        """Return once there are this many, all healthy."""
        self.run("up", "--detach", "--wait", "--no-deps", "--no-recreate", "--scale", f"{service}={replicas}", service)

    def roll(self, *services: str) -> None:
        """Replace every replica, one service after the other, as an operator would."""
        command = [str(FOLDER / "roll.sh"), *services]
        environ = {"COMPOSE_FILE": ":".join(map(str, self._files)), "COMPOSE_PROJECT_NAME": PROJECT}
        _run(command, {**os.environ, **self._environ, **environ}, within_s=600)

    def wait_until_healthy(self, *services: str) -> None:
        for service in services:
            wait_until(
                lambda service=service: all(one.is_healthy for one in self.containers(service)),  # type: ignore[misc]
                within_s=90,
                every_s=0.5,
                what=f"{service} is healthy",
            )

    def run(self, *arguments: str) -> str:
        """Run `docker compose` on this stack; gives what it printed. Raises AssertionError with its complaint."""
        files = [part for file in self._files for part in ("--file", str(file))]
        command = ["docker", "compose", "--ansi", "never", *files, "--project-name", PROJECT, *arguments]
        return _run(command, {**os.environ, **self._environ}, within_s=_COMMAND_S)

    def down(self) -> None:
        """Take everything away but the volumes."""
        self.run("down")

    def up(self) -> None:
        self.run("up", "--detach", "--wait", "--no-build")
        self.host = _gateway_of("outside")

    def metrics(self) -> list[str]:
        program = (
            "import os; from urllib.request import urlopen;"
            "print(urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/metrics').read().decode())"
        )
        return [one.python(program) for stage in STAGES for one in self.containers(stage)]

    def depths(self) -> dict[str, int]:
        """Ready and unacked messages of every queue, as the broker counted them up to five seconds ago."""
        rabbitmq = self.container("rabbitmq").name
        rows = docker(
            "exec", rabbitmq, "rabbitmqctl", "--quiet", "list_queues", "name", "messages", "--formatter", "json"
        )
        return {row["name"]: row["messages"] for row in json.loads(rows)}

    def wait_until_settled(self) -> None:
        """Every stage queue and every delay queue is empty: each message was acked or is a dead letter."""

        def is_settled() -> bool:
            return all(count == 0 for name, count in self.depths().items() if not name.endswith(".dlq"))

        wait_until(is_settled, within_s=60, every_s=2, what="all queues are empty")

    def keep_logs(self, folder: Path) -> None:
        """What every container that still exists has said, a file for each service."""
        folder.mkdir(parents=True, exist_ok=True)
        for service in (*IMAGES, "edge", "rabbitmq", "redis"):
            (folder / f"{service}.log").write_text(self.run("logs", "--no-color", "--timestamps", service))


def docker(*arguments: str) -> str:
    """Run `docker`; gives what it printed. Raises AssertionError with its complaint."""
    return _run(["docker", *arguments], dict(os.environ), within_s=_COMMAND_S)


def size_mb(image: str) -> float:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


@contextmanager
def restored(compose: Compose, *services: str) -> Iterator[None]:
    """Whatever the block does to the services, afterwards all run and are healthy."""
    try:
        yield
    finally:
        for service in services:
            for one in compose.containers(service, is_running=False):
                one.start()
        compose.wait_until_healthy(*services)


def _run(command: Sequence[str], environ: dict[str, str], *, within_s: float) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=within_s, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def _gateway_of(network: str) -> str:
    """This machine's own address in a network of the stack."""
    return docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{PROJECT}_{network}"
    ).strip()
